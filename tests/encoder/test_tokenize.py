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


def test_lengths_come_from_the_tokenizer_and_the_positions(tiny_model, build) -> None:
    assert Encoder(EncoderOptions(str(tiny_model))).tokenizer.max_length == 64
    roberta = build("roberta")
    AutoTokenizer.from_pretrained(roberta, model_max_length=10**30).save_pretrained(roberta)
    assert Encoder(EncoderOptions(str(roberta))).tokenizer.max_length == 79
    with pytest.raises(ConfigError, match=r"at most the 79 positions .* got 80. Lower it"):
        Encoder(EncoderOptions(str(roberta), max_length=80))
