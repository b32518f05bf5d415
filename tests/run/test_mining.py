"""Mined rows that are not what mining wrote are mined again, with a line that says so."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_embed.data import DatasetOptions, load_datasets
from lightning_embed.run import mining
from lightning_embed.types import Task
from tests.toy import write_toy

BREAKS: dict[str, Callable[[Path], object]] = {
    "a line less": lambda file: file.write_text("".join(file.read_text().splitlines(keepends=True)[:-1])),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-9]), "empty": lambda file: file.write_text(""),
    "missing": Path.unlink, "without its seal": lambda file: file.with_name("pairs.jsonl.sha256").unlink(),
}  # fmt: skip


@pytest.mark.parametrize("kind", BREAKS)
def test_mined_again(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Path] = []

    def mine(rows: Any, model: Path, options: Any, target: Path, **how: Any) -> Path:
        calls.append(target)
        target.write_text(
            "".join(json.dumps({k: v for k, v in row.items() if v is not None}) + "\n" for row in rows.table)
        )
        return target

    monkeypatch.setattr(mining, "mine", mine)
    monkeypatch.setattr(mining, "build_options", lambda cls, cfg: cfg)
    monkeypatch.setattr(mining, "prompts_of", lambda data, base: SimpleNamespace(query="", document=""))
    monkeypatch.setattr(mining, "CACHE", tmp_path / "cache")
    folder = write_toy(tmp_path / "toy")
    data = load_datasets(
        {"pairs": DatasetOptions(Task.retrieval, path=str(folder / "pairs"))}, cache=tmp_path / "cache"
    )
    cfg: Any = SimpleNamespace(mining=SimpleNamespace(datasets=["pairs"]), seed=0)
    base: Any = SimpleNamespace(export=lambda target: None)
    mined = getattr(mining.mined, "__wrapped__", mining.mined)
    whole = mined(cfg, data, base, tmp_path)["pairs"].train.table.to_list()
    file = tmp_path / "mined" / "pairs.jsonl"
    assert mined(cfg, data, base, tmp_path)["pairs"].train.table.to_list() == whole
    assert calls == [file]
    capsys.readouterr()
    BREAKS[kind](file)
    assert mined(cfg, data, base, tmp_path)["pairs"].train.table.to_list() == whole
    assert calls == [file, file]
    said = " ".join(capsys.readouterr().out.split())
    assert ("is not what mining wrote. Mining again." in said) == (kind != "missing")
