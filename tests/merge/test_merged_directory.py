"""The directory of a merged model: its configuration is true, and it opens before it is published."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from lightning_embed import load
from lightning_embed.encoder.opening import TransformersOpener
from lightning_embed.errors import CheckpointError, CheckpointMismatch
from lightning_embed.merge import Source
from lightning_embed.merge.checkpoint.name_matching import Header
from lightning_embed.merge.engine import MergeSpec, OutputFormat, merge_models
from lightning_embed.merge.record.record import MergeRecord
from lightning_embed.merge.replay import Replay
from tests.merge import toy, zoo
from tests.merge.test_families import FAMILIES, _plain, _save

TEXTS = ["the red cat", "a small dog sees the river", "king"]


class _Fake:
    """An opener that remembers its calls, with given answers; an exception is raised."""

    def __init__(self, fitted: Any = None, check: Any = None) -> None:
        self.answers = {"fitted": fitted or {}, "check": check}
        self.calls: list[str] = []

    def config(self, folder: Path) -> dict[str, Any]:
        return {}

    def token_ids(self, folder: Path, texts: Sequence[str]) -> list[list[int]] | None:
        return None

    def dequantised(self, folder: Path) -> Path:
        raise AssertionError

    def folded(self, adapter: Path, base: Path) -> Path:
        raise AssertionError

    def fitted(self, config: Mapping[str, Any], header: Header) -> dict[str, Any]:
        return dict(self._answer("fitted"))

    def complete(self, folder: Path) -> str | None:
        self.calls.append("complete")
        (folder / "modules.json").write_text("[]")
        return "completed"

    def check(self, folder: Path) -> str | None:
        assert (folder / "config.json").exists()
        assert (folder / "model.safetensors").exists()
        answer: str | None = self._answer("check")
        return answer

    def _answer(self, name: str) -> Any:
        self.calls.append(name)
        if isinstance(self.answers[name], Exception):
            raise self.answers[name]
        return self.answers[name]


def _toys(folder: Path) -> list[Source]:
    return [Source(toy.write(folder / name, toy.model(seed)), name) for seed, name in enumerate("ab")]


def _merged(opener: Any, folder: Path, **output: Any) -> MergeRecord:
    spec = MergeSpec(toy.strategy("soup"), _toys(folder))
    return merge_models(spec, folder / "merged/one", output=OutputFormat(**output), opener=opener)


def test_an_opener_is_asked_for_all(tmp_path: Path) -> None:
    opener = _Fake({"vocab_size": 7, "architectures": ["X"]}, "not opened.")
    record = _merged(opener, tmp_path)
    config = json.loads((tmp_path / "merged/one/model/config.json").read_text())
    assert config == {"model_type": "toy", "dtype": "float32", "vocab_size": 7, "architectures": ["X"]}
    assert opener.calls == ["fitted", "complete", "check"]
    assert record.remarks() == ["completed", "not opened."]
    assert record.fitted == {"config.json": {"vocab_size": 7, "architectures": ["X"]}}
    assert set(record.files) == {"config.json", "modules.json"}
    replay = Replay.read(tmp_path / "merged/one/merge.json")
    again = _Fake({"vocab_size": 8})
    replay.repeat(toy.strategy("soup"), tmp_path / "merged/two", again)
    assert again.calls == ["complete", "check"], "the recorded changes are made again"
    assert json.loads((tmp_path / "merged/two/model/config.json").read_text()) == config


@pytest.mark.parametrize("answers", [{"fitted": CheckpointMismatch("no")}, {"check": CheckpointError("no")}])
def test_what_does_not_open_is_not_published(answers: dict[str, Any], tmp_path: Path) -> None:
    _merged(_Fake(), tmp_path / "earlier")
    shutil.copytree(tmp_path / "earlier/merged", tmp_path / "merged")
    before = (tmp_path / "merged/one/merge.json").read_bytes()
    with pytest.raises(CheckpointError, match="no"):
        _merged(_Fake(**answers), tmp_path)
    assert (tmp_path / "merged/one/merge.json").read_bytes() == before
    assert [path.name for path in (tmp_path / "merged").iterdir()] == ["one"]


def test_without_an_opener(tmp_path: Path) -> None:
    record = _merged(None, tmp_path, out_dtype="auto")
    assert record.fitted is None
    assert (tmp_path / "merged/one/model/config.json").read_bytes() == (tmp_path / "a/config.json").read_bytes()


def _family(family: str, folder: Path, tiny_model: Path, pooling: str | None = None) -> list[Path]:
    """Three random models of a family with a tokenizer, plain or with modules."""
    config = FAMILIES[family]()
    paths = []
    for seed, name in enumerate(("a", "b", "base")):
        path = _save(_plain(config), config, folder / name, seed)
        for file in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(tiny_model / file, path / file)
        if pooling:
            body = zoo.Transformer(str(path))
            zoo.SentenceTransformer(modules=[body, zoo.Pooling(16, pooling_mode=pooling)], device="cpu").save(str(path))
        paths.append(path)
    return paths


@pytest.mark.parametrize("word", ["soup", "ties", "slerp"])
@pytest.mark.parametrize(("family", "pooling"), [("bert", None), ("bert", "cls"), ("qwen3", "lasttoken"), ("t5", "mean"), ("modernbert", None)])  # fmt: skip
def test_families_open_and_are_what_they_say(
    family: str, pooling: str | None, word: str, tiny_model: Path, tmp_path: Path
) -> None:
    a, b, base = _family(family, tmp_path, tiny_model, pooling)
    spec = MergeSpec(toy.strategy(word), [Source(a, "a"), Source(b, "b")], base)
    record = merge_models(spec, tmp_path / "merged", opener=TransformersOpener())
    model = tmp_path / "merged/model"
    if word == "soup":
        zoo.close(zoo.tensors(model), zoo.mean([a, b]))
    _, misfits = _plain(FAMILIES[family]()).from_pretrained(model, output_loading_info=True)
    assert {key: value for key, value in misfits.items() if value} == {}
    found = zoo.encode(model, TEXTS)[: len(TEXTS)]
    assert bool(found.isfinite().all())
    reference = Path(shutil.copytree(a, tmp_path / "reference"))
    shutil.copyfile(model / "model.safetensors", reference / "model.safetensors")
    if pooling is None:  # sources of plain Hugging Face directories: as our encoder reads them
        torch.testing.assert_close(found, load(reference).encode(TEXTS), rtol=0, atol=1e-6)
        torch.testing.assert_close(load(model).encode(TEXTS), load(reference).encode(TEXTS), rtol=0, atol=0)
        assert any("No model has a modules.json" in remark for remark in record.remarks())
    else:
        torch.testing.assert_close(found, zoo.encode(reference, TEXTS)[: len(TEXTS)], rtol=0, atol=1e-6)
        assert record.notes == []


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module."])
def test_wrapped_models_open_or_are_refused(prefix: str, tiny_model: Path, tmp_path: Path) -> None:
    paths = _family("bert", tmp_path, tiny_model)[:2]
    for path in paths:
        file = path / "model.safetensors"
        save_file({prefix + n: t for n, t in load_file(file).items()}, file, metadata={"format": "pt"})
    spec = MergeSpec(toy.strategy("soup"), [Source(path, path.name) for path in paths])
    try:
        merge_models(spec, tmp_path / "merged", opener=TransformersOpener())
    except CheckpointMismatch as error:
        assert "is missing" in str(error)  # noqa: PT017
        assert not (tmp_path / "merged").exists()
    else:
        _, misfits = transformers.BertModel.from_pretrained(tmp_path / "merged/model", output_loading_info=True)
        assert not any(misfits.values())


def test_a_grown_vocabulary_and_a_dropped_head_are_in_the_config(tiny_model: Path, tmp_path: Path) -> None:
    config = FAMILIES["bert"]()
    for seed, (name, make) in enumerate(
        [("masked", transformers.AutoModelForMaskedLM), ("plain", transformers.AutoModel)]
    ):
        path = _save(make, config, tmp_path / name, seed)
        file = path / "model.safetensors"
        grown = {n: torch.cat([t, t[:3]]) if len(t) == 100 else t for n, t in load_file(file).items()}
        save_file(grown, file, metadata={"format": "pt"})
        for tokenizer in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copyfile(tiny_model / tokenizer, path / tokenizer)
        stored = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(
            json.dumps(stored | {"_name_or_path": "/home/me/x", "torch_dtype": "float16"})
        )
    sources = [Source(tmp_path / name, name) for name in ("masked", "plain")]
    merge_models(
        MergeSpec(toy.strategy("soup"), sources),
        tmp_path / "merged",
        output=OutputFormat("auto"),
        opener=TransformersOpener(),
    )
    written = json.loads((tmp_path / "merged/model/config.json").read_text())
    assert written["vocab_size"] == 103
    assert written["architectures"] == ["BertModel"]
    assert written["dtype"] == "float32"
    assert {"_name_or_path", "torch_dtype"} & written.keys() == set()
    assert zoo.encode(tmp_path / "merged/model", TEXTS).shape == (6, 16)
