from pathlib import Path

import pytest
import torch

from lightning_embed.errors import CheckpointMismatch
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.name_matching import Header, Names, TensorInfo, agree
from lightning_embed.merge.checkpoint.reader import ModelDirectory
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


def test_a_module_beside_the_layers_is_lent_by_the_first_that_has_it() -> None:
    pooler = _header(*BODY, "pooler.weight")
    found = _agree(_header(*BODY), pooler, pooler)
    assert [names.lent for names in found] == [{}, {"pooler.weight": "pooler.weight"}, {}]
    assert [names.dropped for names in found] == [[], [], ["pooler.weight"]]
    wrapped = _header(*BODY, "pooler.weight", prefix="bert.") | _header("classifier.bias")
    found = _agree(_header(*BODY), wrapped)
    assert found[1].lent == {"pooler.weight": "bert.pooler.weight"}
    assert found[1].dropped == ["classifier.bias"]


def test_one_layer_less_is_refused() -> None:
    with pytest.raises(CheckpointMismatch, match=r"1 tensors: encoder.layer.1.weight is only in 'm0'"):
        _agree(_header(*BODY), _header(*BODY[:2]))


def test_a_second_stack_of_layers_is_the_first_models() -> None:
    whole = _header(*BODY, "decoder.layer.0.weight")
    assert [names.lent for names in _agree(whole, _header(*BODY), whole)] == [
        {"decoder.layer.0.weight": "decoder.layer.0.weight"}, {}, {},
    ]  # fmt: skip
    found = _agree(_header(*BODY), whole)
    assert [names.lent for names in found] == [{}, {}]
    assert found[1].dropped == ["decoder.layer.0.weight"]


def test_layer_norms_of_old_times() -> None:
    old = _header("embeddings.LayerNorm.gamma", "embeddings.LayerNorm.beta", *BODY[1:])
    new = _header("embeddings.LayerNorm.weight", "embeddings.LayerNorm.bias", *BODY[1:])
    first, second = _agree(old, new)
    assert first.kept.keys() == second.kept.keys() == new.keys()
    assert first.kept["embeddings.LayerNorm.bias"] == "embeddings.LayerNorm.beta"


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
    assert names[1].dropped == []
    assert set(names[1].lent) == {"pooler.dense.weight", "pooler.dense.bias"}

    from lightning_embed.merge.engine import MergeSpec, merge_models

    record = merge_models(MergeSpec(toy.strategy("soup"), [Source(f, f.name) for f in folders]), tmp_path / "merged")
    assert record.sources[0].dropped == names[0].dropped
    assert record.sources[1].lent == sorted(names[1].lent)
    merged, backbone = (AutoModel.from_pretrained(f) for f in (tmp_path / "merged/model", tiny_model))
    expected = dict(backbone.named_parameters())
    expected |= {n: (p + expected[n]) / 2 for n, p in masked.bert.named_parameters()}
    toy.close(dict(merged.named_parameters()), expected, 1e-6)
