import pickle

import pytest
from transformers import AutoTokenizer

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.errors import ConfigError

TEXTS = ["the red bird", "a cat", "the big dog runs in the old house near the river"]


def test_a_pickled_copy_gives_what_transformers_gives(tiny_model) -> None:
    tokenizer = pickle.loads(pickle.dumps(Encoder(EncoderOptions(str(tiny_model))).tokenizer))
    expected = AutoTokenizer.from_pretrained(tiny_model)([f"small {text}" for text in TEXTS])["input_ids"]
    tokens = tokenizer(TEXTS, prompt="small ")
    assert tokens.ids.tolist() == [token for ids in expected for token in ids]
    assert tokens.lengths.tolist() == [len(ids) for ids in expected]
    assert len(tokenizer([])) == 0


def test_texts_are_cut_and_keep_their_special_tokens(tiny_model) -> None:
    tokenizer = Encoder(EncoderOptions(str(tiny_model), max_length=8)).tokenizer
    assert tokenizer(TEXTS).lengths.tolist() == [5, 4, 8]
    assert tokenizer(TEXTS, max_length=4).lengths.tolist() == [4, 4, 4]
    assert tokenizer(TEXTS, max_length=99).lengths.tolist() == [5, 4, 8]
    assert tokenizer(TEXTS, max_length=4).ids[-1] == tokenizer(TEXTS).ids[-1] == tokenizer.tokenizer.sep_token_id


def test_each_text_may_have_its_own_prompt_and_length(tiny_model) -> None:
    tokenizer = Encoder(EncoderOptions(str(tiny_model), max_length=8)).tokenizer
    prompts, lengths = ["", "small ", "the old "], [4, None, 6]
    together = tokenizer(TEXTS, prompts, lengths)
    alone = [tokenizer([text], before, length) for text, before, length in zip(TEXTS, prompts, lengths, strict=True)]
    assert together.ids.tolist() == [token for tokens in alone for token in tokens.ids.tolist()]
    assert together.lengths.tolist() == [len(tokens.ids) for tokens in alone] == [4, 5, 6]
    assert together.ids[3] == together.ids[-1] == tokenizer.tokenizer.sep_token_id
    for wrong in ({"prompt": prompts[:2]}, {"prompt": [*prompts, ""]}, {"max_length": [4]}, {"max_length": [4] * 4}):
        with pytest.raises(ValueError, match=r"zip\(\) argument"):
            tokenizer(TEXTS, **wrong)


def test_lengths_come_from_the_tokenizer_and_the_positions(tiny_model, build) -> None:
    assert Encoder(EncoderOptions(str(tiny_model))).tokenizer.max_length == 64
    roberta = build("roberta")
    AutoTokenizer.from_pretrained(roberta, model_max_length=10**30).save_pretrained(roberta)
    assert Encoder(EncoderOptions(str(roberta))).tokenizer.max_length == 79
    with pytest.raises(ConfigError, match=r"at most the 79 positions .* got 80. Lower it"):
        Encoder(EncoderOptions(str(roberta), max_length=80))
