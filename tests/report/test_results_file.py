"""results.json and the folder that it stands in."""

import copy
import json
import math
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from lightning_embed.errors import DataError
from lightning_embed.report import Run
from lightning_embed.report.scores.results_file import FILE, read_each


def test_scores_come_back_from_the_file(models, tmp_path):
    for name, found in models.items():
        Run(tmp_path / "run").add(name, found)
    assert Run(tmp_path / "run").models == models
    assert list(Run(tmp_path / "run").models) == list(models)
    content = json.loads((tmp_path / "run" / FILE).read_text())
    assert content["models"]["base"]["test"]["stsb"]["score"] == 70


def test_what_every_query_scored_stands_beside_the_file(models, tmp_path):
    models["base"]["test"]["stsb"] |= {"each": [0.1, 0.7], "gold": [0.0, 5.0]}
    Run(tmp_path).add("base", models["base"], cost=0.0)
    Run(tmp_path).add("soup", models["base"], cost=1.8)
    content = json.loads((tmp_path / FILE).read_text())
    assert "each" not in content["models"]["base"]["test"]["stsb"]
    assert content["costs"] == {"base": 0.0, "soup": 1.8}
    assert read_each(tmp_path, "soup")["test"]["stsb"] == models["base"]["test"]["stsb"]
    assert read_each(tmp_path, "ties") == {}


def test_a_folder_without_results_is_empty(tmp_path):
    run = Run(tmp_path)
    assert run.models == {}
    assert run.metric("base", "dev/mean") is None


def test_a_crash_while_writing_leaves_the_old_file(models, tmp_path, monkeypatch):
    Run(tmp_path).add("base", models["base"])
    before = (tmp_path / FILE).read_text()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        Run(tmp_path).add("soup", models["base"])
    assert (tmp_path / FILE).read_text() == before
    assert not [
        file
        for file in tmp_path.rglob("*")
        if file.name.startswith((".results.json.", ".soup")) and file.suffix != ".lock"
    ]


def test_jobs_that_write_at_the_same_time_lose_nothing(models, tmp_path):
    names = [f"soup-{i}" for i in range(12)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: Run(tmp_path).add(name, models["base"]), names))
    assert sorted(Run(tmp_path).models) == sorted(names)


def test_only_models_measured_alike_are_shown(models, tmp_path):
    Run(tmp_path, "old").add("base", models["base"])
    Run(tmp_path, "old").add("soup", models["base"])
    Run(tmp_path, "new").add("base", models["base"])
    assert list(Run(tmp_path, "new").models) == ["base"]
    assert list(Run(tmp_path, "old").models) == ["soup"]


@pytest.mark.parametrize("text", ["{", "[]", '{"models": {}}'])
def test_a_broken_file_is_refused(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(DataError, match=r"results.json: .*Delete it"):
        _ = Run(tmp_path).models


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("where", ["score", "more", "each", "more_each"])
def test_a_score_that_is_not_finite_is_never_written(models, tmp_path, bad, where):
    """max() with NaN depends on the order: it would be a silent wrong choice."""
    Run(tmp_path).add("base", models["base"])
    before = (tmp_path / FILE).read_bytes()
    spoilt = copy.deepcopy(models["base"])
    changes = {"score": bad, "more": {"recall@10": bad}, "each": [1.0, bad], "more_each": {"recall@10": [bad]}}
    spoilt["test"]["stsb"][where] = changes[where]
    with pytest.raises(DataError, match=r"^soup: a score of stsb \(test\) is not finite"):
        Run(tmp_path).add("soup", spoilt)
    assert (tmp_path / FILE).read_bytes() == before
    assert not (tmp_path / "each" / "soup.json").exists()


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_score_of_an_earlier_version_that_is_not_finite_is_refused(models, tmp_path, word):
    Run(tmp_path).add("base", models["base"])
    file = tmp_path / FILE
    file.write_text(file.read_text().replace("70", word, 1))
    with pytest.raises(DataError, match=rf"results.json: expected JSON, found {word}. Delete it"):
        _ = Run(tmp_path).models
