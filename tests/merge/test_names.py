from pathlib import Path

import pytest
import torch

from lightning_embed.errors import CheckpointMismatch
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint import ModelDirectory
from lightning_embed.merge.names import Header, Names, TensorInfo, agree
from tests.merge import toy


def _header(*names: str, prefix: str = "", **shapes: tuple[int, ...]) -> dict[str, TensorInfo]:
    return {prefix + name: TensorInfo(torch.float32, torch.Size(shapes.get(name, (2,)))) for name in names}


BODY = ("embeddings.weight", "encoder.layer.0.weight", "encoder.layer.1.weight")
IDS = {"embeddings.position_ids": TensorInfo(torch.int64, torch.Size([1, 9]))}


def _agree(*headers: Header) -> list[Names]:
    return agree(headers, [f"m{number}" for number in range(len(headers))])


def test_equal_names_stay_as_they_are() -> None:
    header = _header(*BODY, prefix="bert.") | _header("cls.bias")
    assert _agree(header, header) == [Names({name: name for name in header}, [])] * 2


@pytest.mark.parametrize("prefix", ["bert.", "model.", "0.auto_model."])
@pytest.mark.parametrize("first", [0, 1])
def test_prefix_and_heads(prefix: str, first: int) -> None:
    headers = [_header(*BODY), _header(*BODY, prefix=prefix) | _header("cls.predictions.bias")]
    found = _agree(headers[first], headers[1 - first])
    plain, wrapped = found[first], found[1 - first]
    assert plain == Names({name: name for name in BODY}, [])
    assert wrapped == Names({name: prefix + name for name in BODY}, ["cls.predictions.bias"])


def test_two_prefixes() -> None:
    found = _agree(_header(*BODY, prefix="bert."), _header(*BODY, prefix="roberta."))
    assert [names.kept.keys() for names in found] == [set(BODY)] * 2


def test_position_ids_are_dropped() -> None:
    with_ids = _header(*BODY) | IDS
    found = _agree(_header(*BODY), with_ids, with_ids)
    assert [names.dropped for names in found] == [[], ["embeddings.position_ids"], ["embeddings.position_ids"]]


def test_position_ids_that_are_learned_are_kept() -> None:
    learned = _header(*BODY, "embeddings.position_ids")
    assert "embeddings.position_ids" in _agree(learned, learned)[0].kept


def test_one_module_less_is_a_head_one_layer_less_is_not() -> None:
    pooler = _header(*BODY, "pooler.weight")
    assert [names.dropped for names in _agree(pooler, _header(*BODY), pooler)] == [
        ["pooler.weight"],
        [],
        ["pooler.weight"],
    ]
    with pytest.raises(CheckpointMismatch, match=r"1 tensors: encoder.layer.1.weight is only in 'm0'"):
        _agree(_header(*BODY), _header(*BODY[:2]))


def test_other_architecture() -> None:
    other = ("embeddings.weight", "transformer.layer.0.weight")
    with pytest.raises(
        CheckpointMismatch, match=r"one architecture and vocabulary .* differ in 3 tensors: encoder.layer.0"
    ):
        _agree(_header(*BODY), _header(*other))


def test_differences_are_listed_and_counted() -> None:
    names = [f"encoder.layer.{number}.weight" for number in range(9)]
    other = _header(*names, **dict.fromkeys(names, (2, 3)))
    with pytest.raises(CheckpointMismatch) as caught:
        _agree(_header(*names), _header(*names), other)
    message = str(caught.value)
    assert "'m0' and 'm2' differ in 9 tensors: encoder.layer.0.weight is [2] in 'm0' and [2, 3] in 'm2'" in message
    assert message.count("encoder.layer") == 5
    assert "and 4 more" in message


def test_other_kind_of_dtype() -> None:
    integer = {name: TensorInfo(torch.int8, info.shape) for name, info in _header(*BODY).items()}
    with pytest.raises(CheckpointMismatch, match=r"is torch.float32 in 'm0' and torch.int8 in 'm1'"):
        _agree(_header(*BODY), integer)


def test_masked_language_model_merges_with_its_backbone(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, BertConfig, BertForMaskedLM

    torch.manual_seed(1)
    masked = BertForMaskedLM(BertConfig.from_pretrained(tiny_model))
    masked.save_pretrained(tmp_path / "masked")
    folders = [tmp_path / "masked", tiny_model]
    names = agree([ModelDirectory.open(Source(f, f.name)).header for f in folders], ["masked", "tiny"])
    assert any(name.startswith("cls.") for name in names[0].dropped)
    assert {name.partition(".")[0] for name in names[1].dropped} == {"pooler"}

    from lightning_embed.merge.engine import merge_models

    record = merge_models(toy.strategy("soup"), [Source(f, f.name) for f in folders], None, tmp_path / "merged")
    assert record.sources[0].dropped == names[0].dropped
    merged, backbone = (
        AutoModel.from_pretrained(f, add_pooling_layer=False) for f in (tmp_path / "merged/model", tiny_model)
    )
    expected = {n: (p + backbone.get_parameter(n)) / 2 for n, p in masked.bert.named_parameters()}
    toy.close(dict(merged.named_parameters()), expected, 1e-6)
