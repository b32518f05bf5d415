"""Adapters that peft writes are folded as peft folds them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

from lightning_embed.config import schema
from lightning_embed.errors import CheckpointError
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.open_model import open_model
from lightning_embed.merge.engine import MergeSpec, OutputFormat, merge_models
from lightning_embed.merge.replay import Replay
from tests.merge import toy

pytestmark = pytest.mark.filterwarnings("ignore")  # peft and transformers warn of themselves
peft = pytest.importorskip("peft")
SIZES: dict[str, Any] = {"vocab_size": 100, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}  # fmt: skip
QUERY = "encoder.layer.0.attention.self.query.weight"

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "rslora": {"use_rslora": True},
    "patterns": {"rank_pattern": {"query": 2}, "alpha_pattern": {r"layer\.1\.attention\.self\.query": 3, "value": 5}},
    "embeddings": {"target_modules": ["word_embeddings", "position_embeddings", "query"]},
    "modules_to_save": {"modules_to_save": ["pooler"], "exclude_modules": ["pooler.dense"]},
    "saved embeddings": {"modules_to_save": ["word_embeddings"]},
    "biases": {"bias": "all"},
    "biases of the adapted": {"bias": "lora_only"},
    "everywhere": {"target_modules": "all-linear"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "bert"
    torch.manual_seed(0)
    transformers.BertModel(transformers.BertConfig(**SIZES)).save_pretrained(folder)
    (folder / "vocab.txt").write_text("words")
    return folder


def _disturb(model: nn.Module, seed: int) -> None:
    """Trained, as far as anybody can tell."""
    torch.manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape)


def _adapt(
    base: Path, folder: Path, seed: int = 1, make: Any = transformers.AutoModel, **options: Any
) -> dict[str, Tensor]:
    """Write an adapter to `folder`; returns what peft makes of it."""
    given: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value", "output.dense"], **options}
    adapted = peft.get_peft_model(make.from_pretrained(base), peft.LoraConfig(**given))
    _disturb(adapted, seed)
    adapted.save_pretrained(folder, save_embedding_layers=False)
    again = peft.PeftModel.from_pretrained(make.from_pretrained(base), folder)
    return {name: tensor.detach() for name, tensor in again.merge_and_unload().named_parameters()}


def _folded(folder: Path, base: Path | None = None) -> dict[str, Tensor]:
    model = open_model(Source(folder, "a"), base)
    return {name: model.tensor(name) for name in model.parameters}


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS.keys())
def test_as_peft(options: dict[str, Any], base: Path, tmp_path: Path) -> None:
    expected = _adapt(base, tmp_path / "a", **options)
    original = toy.read(base)
    assert any(not torch.equal(expected[name], original[name]) for name in expected)
    toy.close(_folded(tmp_path / "a"), expected, 1e-6)


def test_weights_that_are_stored_the_other_way(tmp_path: Path) -> None:
    """fan_in_fan_out: GPT-2's layers."""
    torch.manual_seed(0)
    sizes = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=20)
    transformers.GPT2Model(sizes).save_pretrained(tmp_path / "base")
    expected = _adapt(tmp_path / "base", tmp_path / "a", target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    toy.close(_folded(tmp_path / "a"), expected, 1e-6)


def test_written_by_transformers(base: Path, tmp_path: Path) -> None:
    """As sentence-transformers writes one too: with files of its own beside it."""
    model = transformers.AutoModel.from_pretrained(base)
    model.add_adapter(peft.LoraConfig(r=2, target_modules=["key"]))
    _disturb(model, 3)
    model.save_pretrained(tmp_path / "a")
    (tmp_path / "a/modules.json").write_text("[]")
    expected = transformers.AutoModel.from_pretrained(base).state_dict()
    for name, layer in model.named_modules():
        if hasattr(layer, "get_delta_weight"):
            expected[f"{name}.weight"] = layer.base_layer.weight + layer.get_delta_weight("default")
    toy.close(_folded(tmp_path / "a"), {name: t for name, t in expected.items() if t.is_floating_point()}, 1e-6)
    merge_models(MergeSpec(toy.strategy("soup"), [Source(tmp_path / "a", "a")]), tmp_path / "merged")
    files = {path.name for path in (tmp_path / "merged/model").iterdir()}
    assert files == {"config.json", "vocab.txt", "modules.json", "model.safetensors"}


def test_half_precision(base: Path, tmp_path: Path) -> None:
    """The sum is not rounded to what the base is stored in."""
    transformers.AutoModel.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    expected = _adapt(tmp_path / "half", tmp_path / "a")
    found = _folded(tmp_path / "a")
    toy.close(found, expected, 2e-2)
    assert found[QUERY].dtype == torch.float32
    assert not torch.equal(found[QUERY], found[QUERY].bfloat16().float())


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_adapter_of_a_model_with_a_head(wrapped: bool, tmp_path: Path) -> None:
    """Of a classifier on a base that is stored with a prefix, or without."""
    torch.manual_seed(0)
    sizes = transformers.BertConfig(**SIZES)
    (transformers.BertForMaskedLM if wrapped else transformers.BertModel)(sizes).save_pretrained(tmp_path / "base")
    expected = _adapt(
        tmp_path / "base", tmp_path / "a", make=transformers.AutoModelForSequenceClassification, task_type="SEQ_CLS"
    )
    found = {name.removeprefix("bert."): tensor for name, tensor in _folded(tmp_path / "a").items()}
    assert QUERY in found
    for name, tensor in found.items():
        if not name.startswith("cls."):
            torch.testing.assert_close(tensor, expected[f"bert.{name}"])
    dropped = open_model(Source(tmp_path / "a", "a"), None).dropped
    assert [name.removeprefix("base_model.model.") for name in dropped] == ["classifier.bias", "classifier.weight"]


def test_merge(base: Path, tmp_path: Path) -> None:
    """Two adapters and a whole model; the run's base stands in for one that only a name on the hub is given for."""
    one = _adapt(base, tmp_path / "one", 1)
    two = _adapt(base, tmp_path / "two", 2, use_rslora=True)
    _rewrite(tmp_path / "two", base_model_name_or_path="hub/bert")
    whole = transformers.AutoModel.from_pretrained(base)
    _disturb(whole, 3)
    whole.save_pretrained(tmp_path / "three")
    sources = [Source(tmp_path / name, name) for name in ("one", "two", "three")]
    record = merge_models(
        MergeSpec(toy.strategy("soup"), sources, base), tmp_path / "merged/soup", output=OutputFormat("auto")
    )
    three = dict(whole.named_parameters())
    merged = toy.read(tmp_path / "merged/soup/model")
    toy.close(merged, {name: (one[name] + two[name] + three[name].detach()) / 3 for name in one}, 1e-6)
    assert (tmp_path / "merged/soup/model/vocab.txt").read_text() == "words"
    assert record.sources[0].sha256.keys() == {"adapter_config.json", "adapter_model.safetensors", "model.safetensors"}
    recipe = Replay.read(tmp_path / "merged/soup/merge.json")
    recipe.repeat(schema.built("merge", recipe.options), tmp_path / "merged/again")
    _rewrite(tmp_path / "one", lora_alpha=9)
    with pytest.raises(CheckpointError, match=r"one/adapter_config.json is not the file that .* merges"):
        recipe.repeat(schema.built("merge", recipe.options), tmp_path / "merged/again")


# refusal


def _rewrite(folder: Path, **options: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | options))


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    _adapt(base, tmp_path / "a")
    return tmp_path / "a"


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True}, {"lora_bias": True}, {"layer_replication": [[0, 2]]}, {"trainable_token_indices": [1]},
        {"init_lora_weights": "pissa"}, {"peft_type": "LOHA"}, {"some_day": 1},
    ],
)  # fmt: skip
def test_more_than_lora(options: dict[str, Any], adapter: Path) -> None:
    _rewrite(adapter, **options)
    ((key, value),) = options.items()
    with pytest.raises(CheckpointError) as caught:
        _folded(adapter)
    message = f"{adapter}/adapter_config.json: {key}={value!r} is more than plain LoRA. Fold it with peft's merge_and_unload, and merge the result."
    assert str(caught.value) == message


def test_dora_as_peft_writes_it(base: Path, tmp_path: Path) -> None:
    _adapt(base, tmp_path / "a", use_dora=True)
    with pytest.raises(CheckpointError, match=r"use_dora=True is more than plain LoRA"):
        _folded(tmp_path / "a")
    _rewrite(tmp_path / "a", use_dora=False)
    with pytest.raises(CheckpointError, match=r"holds .*lora_magnitude_vector.*, which is not a part of plain LoRA"):
        _folded(tmp_path / "a")


def test_convolutions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic", num_channels=1
    )
    transformers.ResNetModel(sizes).save_pretrained(tmp_path / "base")
    _adapt(tmp_path / "base", tmp_path / "a", target_modules=["convolution"])
    with pytest.raises(CheckpointError, match=r"has no two matrices for .*: only linear layers and embeddings"):
        _folded(tmp_path / "a")


def test_no_base(adapter: Path) -> None:
    _rewrite(adapter, base_model_name_or_path="hub/bert")
    with pytest.raises(CheckpointError) as caught:
        _folded(adapter)
    message = f"{adapter} is an adapter of 'hub/bert', which is not a directory on this machine. Give base=<a directory of that model>."
    assert str(caught.value) == message


def test_another_base(adapter: Path, tmp_path: Path) -> None:
    _rewrite(adapter, base_model_name_or_path=None)
    for name, changes, message in (
        (
            "wide",
            {"hidden_size": 32},
            r"the change of encoder.layer.0.* has the shape \[16, 16\], but the weight in .*wide has \[32, 32\]",
        ),
        ("low", {"num_hidden_layers": 1}, r"adapts encoder.layer.1.*, which .*low lacks: it is the adapter of another"),
    ):
        transformers.BertModel(transformers.BertConfig(**(SIZES | changes))).save_pretrained(tmp_path / name)
        with pytest.raises(CheckpointError, match=message):
            _folded(adapter, tmp_path / name)


def test_broken(adapter: Path, base: Path) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError, match=r"adapter_model.safetensors is not a complete safetensors file .* Copy it again"
    ):
        _folded(adapter)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"adapter_model.safetensors"):
        _folded(adapter)
    for text in ("{", "[]", "{}"):
        (adapter / "adapter_config.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"adapter_config.json: .*\. Save the adapter again.$"):
            _folded(adapter)
    (adapter / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
    with pytest.raises(
        CheckpointError, match=r"a holds a model and an adapter. Remove the one that is not to be merged.$"
    ):
        _folded(adapter)
