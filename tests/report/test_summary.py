"""Means over tasks, by hand."""

from io import StringIO

import pytest
from rich.console import Console

from lightning_embed.card.results import tables
from lightning_embed.errors import ConfigError
from lightning_embed.report.pages.run_page import headline
from lightning_embed.report.run_results import Run
from lightning_embed.report.scores.summary import best, ensemble_name, metric, summary


def test_blocks_and_means_by_hand(models):
    dev, inside, outside, together = summary(models)
    assert [block.title for block in (dev, inside, outside, together)] == [
        *("dev", "test in domain", "test out of domain", "test")
    ]
    assert dev.rows["base"] == {"retrieval": 50, "mean": 50}
    assert inside.rows["base"] == {"retrieval": 50, "sts": 70, "mean": 60}  # not (40 + 60 + 70) / 3
    assert outside.rows["base"] == {"sts": 80, "mean": 80}
    assert together.rows["base"] == {"retrieval": 50, "sts": 75, "mean": 62.5}


def test_each_benchmark_has_its_means(models, tmp_path):
    """In domain, out of domain and all, without repeating a block; local sets are in none of them."""
    for found in models.values():
        found["test"]["squad"]["benchmarks"] = found["test"]["sts13"]["benchmarks"] = ["MTEB(eng, v2)"]
        found["test"]["code"] = {**found["test"]["sts13"], "task": "retrieval", "score": 30.0, "benchmarks": ["C<b>"]}
    blocks = {block.title: block for block in summary(models)[4:]}
    assert list(blocks) == [
        "test, MTEB(eng, v2), in domain", "test, MTEB(eng, v2), out of domain", "test, MTEB(eng, v2)",
        "test, C<b>, out of domain",
    ]  # fmt: skip
    rows = [block.rows["base"] for block in blocks.values()]
    assert rows == [
        {"retrieval": 40, "mean": 40},
        {"sts": 80, "mean": 80},
        {"retrieval": 40, "sts": 80, "mean": 60},
        {"retrieval": 30, "mean": 30},
    ]
    run = Run(tmp_path)
    for name, found in models.items():
        run.add(name, found)
    assert run.means("base")["test_MTEB_eng_v2_in_domain/mean"] == 40
    assert run.means("base")["test_C_b_out_of_domain/retrieval"] == 30
    console = Console(width=120, record=True, file=StringIO())
    run.print(console, list(models))
    assert "test, C<b>, out of domain" in console.export_text()
    page = run.write_html({}).read_text()
    assert "<h2>Test, MTEB(eng, v2), in domain</h2>" in page
    assert "C<b>" not in page
    assert "C<b>" not in tables(models, "base")


def test_a_benchmark_that_is_a_whole_section_is_not_repeated(models):
    for found in models.values():
        for score in found["test"].values():
            score["benchmarks"] = ["MTEB(eng, v2)"]
    assert len(summary(models)) == 4


def test_tasks_come_in_our_order_and_other_types_of_mteb_last(models):

    reranking = {"task": "reranking", "metric": "map_at_1000", "score": 1.0, "in_domain": True}
    models["base"]["test"] = {"AskUbuntu": reranking, **models["base"]["test"]}
    assert summary(models)[1].columns == ["retrieval", "sts", "reranking", "mean"]


def test_without_out_of_domain_tests_there_is_no_second_mean(models):
    for found in models.values():
        del found["test"]["sts13"]
    assert [block.title for block in summary(models)] == ["dev", "test in domain"]


def test_a_model_that_lacks_a_test_has_no_mean_over_it(models):
    del models["base"]["test"]["wikiqa"]
    row = summary(models)[1].rows["base"]
    assert row == {"retrieval": None, "sts": 70, "mean": None}


def test_metric_reads_dev(models):
    assert metric(models, "retrieval", "dev/mean") == 61
    assert metric(models, "retrieval", "dev/retrieval") == 61
    del models["base"]["dev"]
    assert metric(models, "base", "dev/mean") is None


def test_dev_sets_of_what_is_not_trained_on_choose_nothing(models):
    for found in models.values():
        found["dev"]["nq"] = {**found["dev"]["squad"], "score": 1.0, "in_domain": False}
    assert [block.title for block in summary(models)][:2] == ["dev", "dev out of domain"]
    assert metric(models, "retrieval", "dev/mean") == 61
    for found in models.values():
        found["dev"]["squad"]["in_domain"] = False  # models of elsewhere: all that there is
    assert summary(models)[0].title == "dev"
    assert metric(models, "retrieval", "dev/mean") == 31


def test_an_unknown_metric_is_refused(models):
    with pytest.raises(ConfigError, match=r"dev/retrival: no such score\. Did you mean 'retrieval'"):
        metric(models, "base", "dev/retrival")


def test_best_compares_what_is_shown():
    assert best({"a": 79.996, "b": 80.0, "c": None, "d": 9.0}) == "80.00"
    assert best({"a": None}) is None


def test_an_ensemble_is_never_the_best_model(models):
    models[ensemble_name(2)] = {split: dict(tests) for split, tests in models["base"].items()}
    models[ensemble_name(2)]["dev"] = {"squad": {**models["base"]["dev"]["squad"], "score": 99.0}}
    assert summary(models)[0].rows["ensemble of 2 encoders"]["mean"] == 99
    assert summary(models)[0].best["mean"] == "61.00"
    assert headline(models).startswith("<b>retrieval</b> is best on dev")


def test_nothing_measured_is_no_block():
    assert summary({}) == summary({"base": {}}) == []
