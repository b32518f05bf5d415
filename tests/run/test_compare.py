"""compare=: finished runs from their folders alone."""

import io
import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from lightning_embed.config import compose
from lightning_embed.errors import ConfigError
from lightning_embed.report import Run
from lightning_embed.run import compare
from tests.report.conftest import score


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name, points, lr in (("a", 60, 1e-5), ("b", 70, 2e-5)):
        run = Run(tmp_path / f"run-{name}")
        for model, shift in (("base", 50 - points), ("joint", 0)):
            found = score("retrieval", points + shift)
            found["each"] = [(points + shift + i % 5 - 2) / 100 for i in range(40)]
            run.add(model, {"dev": {"squad": found}}, cost=points * 10.0 if model == "joint" else 0.0)
        typed = [f"optimizer.lr={lr}", "merge=none", "logger=none"]
        choices = [{"key": text.partition("=")[0], "value": text.partition("=")[2], "text": text} for text in typed]
        # the second as a folder of an earlier version has it
        found = {"choices": choices} if name == "a" else {"overrides": typed}
        OmegaConf.save(found, tmp_path / f"run-{name}" / "run.yaml")
    (tmp_path / "run-sweep").mkdir()
    return tmp_path


def _compare(runs: Path, *patterns: str) -> tuple[str, dict]:
    console = Console(file=io.StringIO(), width=100)
    cfg = {"compare": list(patterns), "out": str(runs / "out"), "optimized_metric": "dev/mean"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compare, "console", console)
        compare.compare(OmegaConf.create(cfg))
    return console.file.getvalue(), json.loads((runs / "out" / "results.json").read_text())


def test_one_table_of_any_runs(runs: Path) -> None:
    text, found = _compare(runs, f"{runs}/run-*")
    assert [recipe["name"] for recipe in found["recipes"]] == ["lr=2e-05 joint", "lr=1e-05 joint", "base"]
    assert text.index("lr=2e-05 joint") < text.index("lr=1e-05 joint") < text.index(" base ")
    assert found["reference"] == "lr=2e-05 joint"
    assert found["recipes"][1]["differences"]["dev"]["difference"] == pytest.approx(-10)
    assert found["recipes"][1]["differences"]["dev"]["high"] < 0
    assert {file.name for file in (runs / "out").iterdir()} == {"report.html", "results.json", "cost.png", "cost.svg"}


def test_what_was_measured_otherwise_is_left_out_by_name(runs: Path) -> None:
    for name in ("c", "d"):
        Run(runs / f"run-{name}", "other").add("joint", {"dev": {"squad": score("retrieval", 50)}})
        OmegaConf.save({"overrides": [f"optimizer.lr={name}"]}, runs / f"run-{name}" / "run.yaml")
    text, found = _compare(runs, f"{runs}/run-[abc]")
    assert f"left out, because its evaluation differs from that of the others: {runs}/run-c" in text.replace("\n", "")
    assert "lr=c joint" not in [recipe["name"] for recipe in found["recipes"]]


def test_a_run_keeps_its_own_report(runs: Path) -> None:
    (runs / "out").mkdir()
    (runs / "out" / "run.yaml").write_text("")
    with pytest.raises(ConfigError, match="is the folder of a run, with a report of its own"):
        _compare(runs, f"{runs}/run-*")


def test_a_folder_that_is_no_finished_run(runs: Path) -> None:
    with pytest.raises(ConfigError, match="mistyped: it is no folder of a run"):
        _compare(runs, f"{runs}/run-a", f"{runs}/mistyped")
    (runs / "run-a" / "results.json").unlink()
    with pytest.raises(ConfigError, match="its models are not measured yet"):
        _compare(runs, f"{runs}/run-a")


def _other(runs: Path, name: str, evaluation: str) -> None:
    Run(runs / name, evaluation).add("joint", {"dev": {"sts": score("sts", 50)}})
    OmegaConf.save({"overrides": []}, runs / name / "run.yaml")


def _spoil(runs: Path) -> None:
    """Folders of every kind that cannot be compared."""
    (runs / "empty").mkdir()
    (runs / "file").write_text("")
    for name, content in (("unmeasured", None), ("nothing", {"models": {}, "evaluations": {}})):
        (runs / name).mkdir()
        OmegaConf.save({"overrides": []}, runs / name / "run.yaml")
        if content is not None:
            (runs / name / "results.json").write_text(json.dumps(content))
    _other(runs, "other", "of other tasks")
    _other(runs, "unreadable", "")
    (runs / "unreadable" / "run.yaml").write_text("[")
    (runs / "link").symlink_to(runs / "run-a")
    (runs / "dangling").symlink_to(runs / "nowhere")


@pytest.mark.parametrize(
    ("given", "reasons"),
    [
        (["run-a", "run-b", "empty"], ["empty: it is no folder of a run (with a run.yaml)."]),
        (["run-a", "run-b", "file"], ["file: it is no folder of a run"]),
        (["run-a", "run-b", "dangling"], ["dangling: it is no folder of a run"]),
        (["run-a", "run-b", "absent"], ["absent: it is no folder of a run"]),
        (["run-a", "run-b", "unmeasured"], ["unmeasured: its models are not measured yet."]),
        (["run-a", "run-b", "nothing"], ["nothing: its models are not measured yet."]),
        (["run-a", "run-b", "unreadable"], ["unreadable: its run.yaml cannot be read."]),
        (["run-a", "run-b", "other"], ["other: its evaluation differs from that of the others."]),
        (["run-a", "other"], ["other: its evaluation differs", "found 1."]),
        (["run-a", "empty", "unmeasured"], ["empty: it is no", "unmeasured: its models", "found 1."]),
        (["empty", "unmeasured"], ["empty: it is no", "unmeasured: its models", "found 0."]),
        (["run-a"], ["expected two runs or more with one evaluation, found 1. Give folders of finished runs"]),
        (["run-[a]"], ["found 1."]),
        (["run-a", "run-[a]"], ["found 1."]),
        (["unm*"], ["unmeasured: its models are not measured yet.", "found 0."]),
        (["run-a", "run-a"], ["run-a is given twice. Remove one."]),
        (["run-a", "run-a/"], ["is given twice."]),
        (["run-a", "link"], ["link is given twice."]),
        (["run-a", "run-b", "x*"], ["x*: it matches no folder of a run (with a run.yaml)."]),
    ],
)
def test_no_run_is_missing_in_silence(given: list[str], reasons: list[str], runs: Path) -> None:
    _spoil(runs)
    with pytest.raises(ConfigError) as caught:
        _compare(runs, *(f"{runs}/{name}" for name in given))
    for reason in reasons:
        assert reason in str(caught.value)
    assert not (runs / "out").exists()


def test_a_wildcard_takes_what_can_be_compared_and_names_the_rest(runs: Path) -> None:
    _spoil(runs)
    text, found = _compare(runs, f"{runs}/*")
    flat = text.replace("\n", "")
    assert f"left out, because its models are not measured yet: {runs}/unmeasured" in flat
    assert f"left out, because its run.yaml cannot be read: {runs}/unreadable" in flat
    assert f"its evaluation differs from that of the others: {runs}/other" in flat
    assert len(found["recipes"]) == 3, "link and run-a are one run"


def test_a_folder_may_be_called_like_a_wildcard(runs: Path) -> None:
    (runs / "run-a").rename(runs / "run[1]")
    _compare(runs, f"{runs}/run[1]", f"{runs}/run-b")


def test_nothing_is_merged_beside() -> None:
    compose.check_command("merge", ["compare=[a,b]"])
    with pytest.raises(ConfigError, match="remove sources and recipe"):
        compose.check_command("merge", ["compare=[a,b]", "sources=[c,d]"])
