"""What only transformers and peft can read is converted as they read it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lightning_embed.config import schema
from lightning_embed.encoder import conversion
from lightning_embed.encoder.opening import OPENER
from lightning_embed.errors import CheckpointError
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.open_model import open_model
from lightning_embed.merge.engine import MergeSpec, merge_models
from lightning_embed.merge.record.freshness import is_current
from lightning_embed.merge.replay import Replay
from tests.merge import toy

pytestmark = pytest.mark.filterwarnings("ignore")  # peft and transformers warn of themselves
SIZES: dict[str, Any] = {"vocab_size": 100, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}  # fmt: skip


VOCABULARY = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nwords"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(conversion, "CACHE", tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "bert"
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**SIZES)).save_pretrained(folder)
    (folder / "vocab.txt").write_text(VOCABULARY)
    return folder


def _disturb(model: nn.Module) -> None:
    torch.manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape)


def _opened(folder: Path, base: Path | None = None) -> dict[str, Tensor]:
    model = open_model(Source(folder, "a"), base, OPENER)
    return {name: model.tensor(name) for name in model.parameters}


peft = pytest.importorskip("peft")
TARGETS = ["query", "value", "output.dense"]
LORA: dict[str, dict[str, Any]] = {
    "dora": {"use_dora": True},
    "dora of embeddings": {"use_dora": True, "target_modules": ["word_embeddings", "query"]},
    "rank-stabilised dora": {"use_dora": True, "use_rslora": True},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
    "biases of the factors": {"lora_bias": True},
    "new tokens": {"trainable_token_indices": {"word_embeddings": [1, 2]}},
    "layers twice": {"layer_replication": [[0, 1], [0, 1]]},
}
OTHERS: dict[str, Callable[[], Any]] = {
    "loha": lambda: peft.LoHaConfig(target_modules=TARGETS, r=2),
    "lokr": lambda: peft.LoKrConfig(target_modules=TARGETS, r=2),
    "ia3": lambda: peft.IA3Config(target_modules=TARGETS, feedforward_modules=["output.dense"]),
    "oft": lambda: peft.OFTConfig(target_modules=["query"], r=2, oft_block_size=0),
    "vera": lambda: peft.VeraConfig(target_modules=["query", "value"], r=2),
    "fourierft": lambda: peft.FourierFTConfig(target_modules=["query"], n_frequency=5),
    "hra": lambda: peft.HRAConfig(target_modules=["query"], r=2),
    "adalora": lambda: peft.AdaLoraConfig(target_modules=["query"], total_step=10, init_r=4, target_r=2),
    "layer norms": lambda: peft.LNTuningConfig(target_modules=["LayerNorm"]),
}


def _adapter(base: Path, folder: Path, config: Any) -> dict[str, Tensor]:
    """Write an adapter; returns the trained weights, adapter included."""
    adapted = peft.get_peft_model(transformers.AutoModel.from_pretrained(base), config)
    _disturb(adapted)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    return {name: tensor.detach() for name, tensor in adapted.merge_and_unload().named_parameters()}


@pytest.mark.parametrize("kind", [*LORA, *OTHERS])
def test_adapters_as_peft_folds_them(kind: str, base: Path, tmp_path: Path) -> None:
    options = LORA.get(kind)
    config = OTHERS[kind]() if options is None else peft.LoraConfig(**{"r": 4, "target_modules": TARGETS, **options})
    expected = _adapter(base, tmp_path / "a", config)
    original = toy.read(base)
    assert any(name not in original or not torch.equal(expected[name], original[name]) for name in expected)
    toy.close(_opened(tmp_path / "a"), expected, 1e-6)
    model = open_model(Source(tmp_path / "a", "a"), None, OPENER)
    assert model.notes == ("its adapter was folded by peft.",)


def test_an_adapter_with_a_larger_vocabulary(base: Path, tmp_path: Path) -> None:
    """DoRA, and all rows of the embeddings, of which the base has fewer."""
    model = transformers.AutoModel.from_pretrained(base)
    model.resize_token_embeddings(103)
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=2, use_dora=True, target_modules=["query"], modules_to_save=["word_embeddings"])
    )
    _disturb(adapted)
    adapted.save_pretrained(tmp_path / "a", save_embedding_layers=False)
    expected = {name: tensor.detach() for name, tensor in adapted.merge_and_unload().named_parameters()}
    found = _opened(tmp_path / "a", base)
    toy.close(found, expected, 1e-6)
    assert found["embeddings.word_embeddings.weight"].shape == (103, 16)
    copy = open_model(Source(tmp_path / "a", "a"), base, OPENER).folders[-1]
    assert json.loads((copy / "config.json").read_text())["vocab_size"] == 103


def test_a_base_without_a_pooler(tmp_path: Path) -> None:
    """What the base lacks is not made up: a masked language model has no pooler."""
    torch.manual_seed(0)
    transformers.BertForMaskedLM(transformers.BertConfig(**SIZES)).save_pretrained(tmp_path / "base")
    expected = _adapter(
        tmp_path / "base", tmp_path / "a", peft.LoraConfig(r=2, use_dora=True, target_modules=["query"])
    )
    found = _opened(tmp_path / "a")
    assert found.keys() == {name for name in expected if not name.startswith("pooler.")}
    toy.close(found, {name: expected[name] for name in found}, 1e-6)


def test_made_once_and_merged_and_repeated(base: Path, tmp_path: Path, cache: Path) -> None:
    config = peft.LoraConfig(r=2, use_dora=True, target_modules=["query"])
    expected = _adapter(base, tmp_path / "a", config)
    source, target = Source(tmp_path / "a", "a"), tmp_path / "merged/soup"
    record = merge_models(MergeSpec(toy.strategy("soup"), [source, Source(base, "b")]), target, opener=OPENER)
    original, merged = toy.read(base), toy.read(target / "model")
    toy.close(merged, {name: (original[name] + expected[name]) / 2 for name in expected}, 1e-6)
    assert (target / "model/vocab.txt").read_text() == VOCABULARY
    assert record.sources[0].sha256.keys() == {"adapter_config.json", "adapter_model.safetensors", "model.safetensors"}
    assert "a: its adapter was folded by peft." in record.remarks()
    assert is_current(target, [source, Source(base, "b")], None, opener=OPENER)
    recipe = Replay.read(target / "merge.json")
    (made,) = cache.glob("converted/*")
    before = (made / "model.safetensors").stat().st_mtime_ns
    again = recipe.repeat(schema.built("merge", recipe.options), tmp_path / "merged/again", OPENER)
    assert again.sha256 == record.sha256
    assert (made / "model.safetensors").stat().st_mtime_ns == before
    (tmp_path / "a/adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError):
        recipe.repeat(schema.built("merge", recipe.options), tmp_path / "merged/again", OPENER)


# refusal


@pytest.mark.parametrize("start", ["loftq", "corda", "pissa_niter_4", "lora_ga"])
def test_starts_that_cannot_be_computed_again(start: str, base: Path, tmp_path: Path) -> None:
    _adapter(base, tmp_path / "a", peft.LoraConfig(r=2, target_modules=["query"]))
    _rewrite(tmp_path / "a/adapter_config.json", init_lora_weights=start)
    with pytest.raises(
        CheckpointError, match=rf"cannot be folded into {base} by peft \(.*{start}.*\)\. Fold it with the"
    ):
        _opened(tmp_path / "a")


@pytest.mark.parametrize("change", [{"num_hidden_layers": 2}, {"hidden_size": 32}])
def test_the_base_of_a_different_adapter(change: dict[str, int], base: Path, tmp_path: Path) -> None:
    large = transformers.BertModel(transformers.BertConfig(**(SIZES | change)))
    large.save_pretrained(tmp_path / "large")
    _adapter(tmp_path / "large", tmp_path / "a", peft.LoraConfig(r=2, use_dora=True, target_modules=["query"]))
    _rewrite(tmp_path / "a/adapter_config.json", base_model_name_or_path="hub/large")
    if "num_hidden_layers" in change:
        base, large = tmp_path / "large", base
        _rewrite(tmp_path / "a/adapter_config.json", base_model_name_or_path=None)
        tensors = load_file(tmp_path / "a/adapter_model.safetensors")
        save_file({n: t for n, t in tensors.items() if "layer.1" not in n}, tmp_path / "a/adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"cannot be folded into .* by peft \(.*\)\. Fold it with"):
        _opened(tmp_path / "a", base)


def test_prompts_are_no_weights(base: Path, tmp_path: Path) -> None:
    config = peft.PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=2)
    peft.get_peft_model(transformers.AutoModel.from_pretrained(base), config).save_pretrained(tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"cannot be folded into .* by peft"):
        _opened(tmp_path / "a")


def test_without_peft(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _adapter(base, tmp_path / "a", peft.LoraConfig(r=2, use_dora=True, target_modules=["query"]))
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(
        CheckpointError, match=r"expected the package peft, got none. pip install 'lightning-embed\[lora\]'"
    ):
        _opened(tmp_path / "a")


def _rewrite(file: Path, **entries: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


# quantised models

BLOCK = 16


def _fp8(folder: Path, target: Path) -> dict[str, Tensor]:
    """Write the 8-bit weights of a model with a scale per block, as DeepSeek's; returns code times scale."""
    tensors, stored, expected = load_file(folder / "model.safetensors"), {}, {}
    for name, tensor in tensors.items():
        if not name.endswith("proj.weight"):
            stored[name] = expected[name] = tensor
            continue
        rows, columns = tensor.shape
        blocks = tensor.float().reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
        scale = blocks.abs().amax((1, 3)) / 448
        codes = (blocks / scale[:, None, :, None]).reshape(rows, columns).to(torch.float8_e4m3fn)
        stored |= {name: codes, f"{name}_scale_inv": scale}
        expected[name] = (codes.float().reshape(blocks.shape) * scale[:, None, :, None]).reshape(rows, columns)
    target.mkdir()
    save_file(stored, target / "model.safetensors", metadata={"format": "pt"})
    options = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}
    config = json.loads((folder / "config.json").read_text()) | {"quantization_config": options}
    (target / "config.json").write_text(json.dumps(config))
    (target / "vocab.txt").write_text("words")
    return expected


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "qwen"
    torch.manual_seed(0)
    sizes = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 16}
    config = transformers.Qwen3Config(**sizes, num_attention_heads=2, num_key_value_heads=1)
    transformers.Qwen3Model(config).save_pretrained(folder)
    return folder


def test_fp8(qwen: Path, tmp_path: Path) -> None:
    expected = _fp8(qwen, tmp_path / "a")
    toy.close(_opened(tmp_path / "a"), expected, 1e-7)
    sources = [Source(tmp_path / "a", "a"), Source(qwen, "b")]
    record = merge_models(MergeSpec(toy.strategy("soup"), sources, tmp_path / "a"), tmp_path / "m", opener=OPENER)
    plain = load_file(qwen / "model.safetensors")
    toy.close(toy.read(tmp_path / "m/model"), {name: (plain[name] + expected[name]) / 2 for name in plain}, 1e-6)
    assert "quantization_config" not in json.loads((tmp_path / "m/model/config.json").read_text())
    assert "a: its quantised weights were dequantised." in record.remarks()
    assert record.sources[0].sha256.keys() == {"config.json", "model.safetensors"}
    assert (tmp_path / "m/model/vocab.txt").exists()
    transformers.AutoModel.from_pretrained(tmp_path / "m/model")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"quant_method": "gptq", "bits": 4}, "optimum|gptqmodel"),
        ({"quant_method": "awq", "bits": 4}, "gptqmodel|autoawq|awq"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes"),
        ({"quant_method": "compressed-tensors"}, "compressed"),
        ({"quant_method": "some day"}, "some day"),
        ({"load_in_8bit": True}, "bitsandbytes|unknown"),
    ],
)
def test_what_cannot_be_dequantised_here(options: dict[str, Any], reason: str, qwen: Path, tmp_path: Path) -> None:
    _fp8(qwen, tmp_path / "a")
    _rewrite(tmp_path / "a/config.json", quantization_config=options)
    with pytest.raises(
        CheckpointError,
        match=rf"a is quantised, and transformers cannot dequantise it here \(.*({reason}).*\)\. Dequantise it where",
    ):
        _opened(tmp_path / "a")


def test_scales_without_a_configuration(qwen: Path, tmp_path: Path) -> None:
    """transformers would read the codes as weights."""
    _fp8(qwen, tmp_path / "a")
    _rewrite(tmp_path / "a/config.json", quantization_config=None)
    with pytest.raises(CheckpointError, match=r"is quantised \(torch.float8_e4m3fn .*cannot be merged"):
        _opened(tmp_path / "a")
