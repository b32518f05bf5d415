"""The tables on the terminal, and the one at the end of a sweep."""

import io

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from rich.console import Console

from lightning_embed.report import Run, SweepTable, sweep_table
from lightning_embed.report.table import print_results


def shown(models, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_results(models, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_every_model_and_score_is_shown_at_any_width(models, width):
    many = {f"{name}{i}": found for i in range(3) for name, found in models.items()}
    text = shown(many, width)
    assert max(map(len, text.splitlines())) <= width
    for name in many:
        assert name in text
    assert "…" not in text
    assert text.count("62.50") == 3  # the base's mean over all tests


def test_the_best_of_each_column_is_marked_without_colour(models):
    lines = shown(models, 100).splitlines()
    inside = lines[next(i for i, line in enumerate(lines) if "test in domain" in line) :]
    rows = {line.split()[0]: line.split()[1:] for line in inside[1:4]}
    assert rows["retrieval"] == ["63.00*", "60.00", "61.50"]
    assert rows["soup-1f3a9c"] == ["61.00", "75.00*", "68.00*"]


def test_equal_to_two_digits_is_equally_good(models):
    lines = [line.split() for line in shown(models, 100).splitlines() if "sts13" in line]
    assert lines == [["sts13", "Spearman", "80.00*", "70.00", "80.00*"]]


def test_nothing_measured_says_so():
    assert shown({}, 80) == "Nothing was measured.\n"


def test_a_sweep_is_sorted_by_dev_and_those_without_come_last(models):
    del models["base"]["dev"]
    console = Console(file=io.StringIO(), width=100)
    console.print(sweep_table(models))
    rows = [line.split()[0] for line in console.file.getvalue().splitlines()[4:7]]
    assert rows == ["retrieval", "soup-1f3a9c", "base"]


def test_the_end_of_a_sweep_shows_the_jobs_that_finished(models, tmp_path, capsys):
    table = SweepTable()
    for folder, name, status in [
        ("a", "base", "COMPLETED"),
        ("b", "soup-1f3a9c", "COMPLETED"),
        ("c", "ties", "FAILED"),
    ]:
        Run(tmp_path / folder).add(name, models["base"])
        table.on_job_end(OmegaConf.create({"out": str(tmp_path / folder)}), JobReturn(status=JobStatus[status]))
    table.on_multirun_end(OmegaConf.create())
    text = capsys.readouterr().out
    assert "a/base" in text
    assert "b/soup-1f3a9c" in text
    assert "ties" not in text


def test_models_of_a_sweep_are_named_by_what_sets_their_job_apart(models, tmp_path, capsys):
    """What all folders measured alike, the base, stands once."""
    table = SweepTable()
    jobs = [("a", "soup"), ("a", "none"), ("b", "soup"), ("b", "none")]
    for sampler, merge in jobs:
        run = Run(tmp_path / sampler)
        run.add("base", models["base"])
        run.add("soup-1f3a9c", models["soup-1f3a9c" if sampler == "a" else "retrieval"])
        done = JobReturn(overrides=["seed=1", f"sampler={sampler}", f"merge={merge}"], status=JobStatus.COMPLETED)
        table.on_job_end(OmegaConf.create({"out": str(tmp_path / sampler)}), done)
    table.on_multirun_end(OmegaConf.create())
    shown = [line.split()[0] for line in capsys.readouterr().out.splitlines()[4:7]]
    assert sorted(shown) == ["base", "sampler=a/soup-1f3a9c", "sampler=b/soup-1f3a9c"]
