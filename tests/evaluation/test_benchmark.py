"""Benchmark tasks by name, and the three words of `evaluation=`."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from lightning_embed.errors import ConfigError
from lightning_embed.evaluation import Evaluator, Local, Mteb, Nothing
from lightning_embed.evaluation.benchmark import get_tasks, members

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def mock_task(monkeypatch: pytest.MonkeyPatch) -> str:
    """An mteb task that needs no download, known to mteb by name."""
    import mteb  # noqa: F401
    from mteb.mocks.mock_tasks import MockSTSTask

    from lightning_embed.evaluation import benchmark

    name = MockSTSTask.metadata.name
    monkeypatch.setitem(sys.modules["mteb.get_tasks"]._TASKS_REGISTRY, name, MockSTSTask)
    monkeypatch.setattr(benchmark, "TASK_LIST", (*benchmark.TASK_LIST, MockSTSTask))
    return name


def test_a_task_by_name_is_scored_beside_the_local_sets(mock_task, encoder, eval_sets):
    evaluator = Mteb([mock_task], in_domain=[mock_task], local=Local(splits=["dev"]))
    evaluator.validate()
    results = evaluator(encoder, eval_sets)
    assert results.keys() == {"dev", "test"}
    assert results["test"].keys() == {mock_task}
    score = results["test"][mock_task]
    assert (score["task"], score["metric"], score["in_domain"]) == ("sts", "cosine_spearman", True)
    assert abs(score["score"]) == pytest.approx(100)  # two pairs: rank correlation 1 or -1


def test_two_tests_of_one_name_are_refused(mock_task, encoder, eval_sets):
    with pytest.raises(ConfigError, match=f"Two tests have the name '{mock_task}'"):
        Mteb([mock_task], local=Local())(encoder, [replace(eval_sets[2], name=mock_task)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ["sts-12"]}, r"no task 'sts-12'. Did you mean STS12"),
        ({"tasks": []}, r"evaluation.tasks=\[STS12"),
        ({"tasks": ["Flickr30kI2TRetrieval"]}, "this model takes only text"),
        ({"tasks": ["STS12"], "in_domain": ["STS13"]}, "Did you mean 'STS12'"),
        (
            {"benchmark": "MTEB(eng, v3)"},
            r"evaluation.benchmark: mteb has no 'MTEB\(eng, v3\)'. Did you mean MTEB\(eng, v",
        ),
        (
            {"benchmark": ["MTEB(eng, v2)", "RTEB(Beta)"]},
            r"evaluation.benchmark: mteb has no 'RTEB\(Beta\)'. Did you mean RTEB\(beta\)",
        ),
        (
            {"benchmark": ["RTEB(beta)", "RTEB(eng, beta)"]},
            r"CUREv1 has different splits or languages in RTEB\(beta\) and RTEB\(eng, beta\): name one",
        ),
        (
            {"tasks": ["ATEC"], "benchmark": ["MTEB(eng, v2)", "RTEB(beta)"]},
            r"MTEB\(eng, v2\) and RTEB\(beta\) have no task 'ATEC'",
        ),
        ({"tasks": ["STS12"], "split": "train"}, "evaluation.split: 'train' is no split"),
        ({"tasks": ["STS12"], "local": Local(dtype="bfloat16")}, "evaluation.local.dtype=bfloat16: all tests have one"),
        ({"tasks": ["ATEC"], "benchmark": "MTEB(eng, v2)"}, r"MTEB\(eng, v2\) has no task 'ATEC'"),
    ],
)
def test_tasks_are_refused_before_training(options, message):
    with pytest.raises(ConfigError, match=message):
        Mteb(**options).validate()


def test_a_benchmark_gives_its_own_splits_and_languages():
    """The STS17 of MTEB(eng, v1) is English alone; C-MTEB's BQ has a validation split too, which its leaderboard leaves out."""
    (english,), (whole,) = get_tasks(["STS17"], "MTEB(eng, v1)"), get_tasks(["STS17"], None)
    assert english.hf_subsets == ["en-en"]
    assert len(whole.hf_subsets) > 10
    (chinese,) = get_tasks(["BQ"], "MTEB(cmn, v1)")
    assert list(chinese.eval_splits) == ["test"]
    assert len(get_tasks([], "MTEB(eng, v2)")) == 41


def test_several_benchmarks(caplog):
    """BOOM's three: 41, 12 and the 17 public ones of 30; AppsRetrieval is in two and runs once."""
    evaluator = Mteb(benchmark=["MTEB(eng, v2)", "MTEB(Code, v1)", "RTEB(beta)"])
    with caplog.at_level("INFO"):
        evaluator.validate()
    assert "not public: Code1Retrieval, EnglishFinance1Retrieval" in caplog.text
    names = [part.name for part in evaluator.parts([])]
    assert len(names) == len(set(names)) == 41 + 12 + 17 - 1
    assert members(["MTEB(Code, v1)", "RTEB(beta)"])["AppsRetrieval"] == ["MTEB(Code, v1)", "RTEB(beta)"]
    assert not any("Code1" in name for name in names)


def test_a_score_names_the_benchmarks_of_its_test(mock_task, encoder, monkeypatch):
    import mteb

    task = mteb.get_task(mock_task)
    ours = [mteb.Benchmark(name=name, tasks=[task]) for name in ("Ours(a)", "Ours(b)")]
    monkeypatch.setattr(mteb, "get_benchmarks", lambda: ours)
    monkeypatch.setattr(mteb, "get_benchmark", lambda name: next(b for b in ours if b.name == name))
    for benchmark, expected in (("Ours(b)", ["Ours(b)"]), (["Ours(a)", "Ours(b)"], ["Ours(a)", "Ours(b)"])):
        evaluator = Mteb(benchmark=benchmark)
        evaluator.validate()
        assert evaluator(encoder, [])["test"][mock_task]["benchmarks"] == expected
    assert "benchmarks" not in Mteb([mock_task])(encoder, [])["test"][mock_task]


def test_known_tasks_pass():
    Mteb(["STS12", "SciFact"]).validate()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["evaluation=local", "evaluation.max_dev_queries=500"], Local(["dev", "test"], 500)),
        (["evaluation=mteb", "evaluation.tasks=[STS12]"], Mteb(["STS12"], [], Local(["dev", "test"]))),
        (["evaluation=mteb", "evaluation@evaluation.local=none"], Mteb([], [], Nothing())),
        (
            ["evaluation=mteb", "evaluation.benchmark=['MTEB(eng, v2)','RTEB(beta)']"],
            Mteb([], [], Local(["dev", "test"]), ["MTEB(eng, v2)", "RTEB(beta)"]),
        ),
        (["evaluation=none"], Nothing()),
    ],
)
def test_every_word_of_the_group_builds_its_evaluator(overrides, expected):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        evaluator = instantiate(compose(overrides=[f"+{overrides[0]}", *overrides[1:]]).evaluation, _convert_="all")
    assert evaluator == expected
    assert isinstance(evaluator, Evaluator)


def test_dev_splits_of_tasks_are_dev_scores(mock_task, encoder, monkeypatch):
    """Of the mock's two splits, the one called validation; a task whose only split is called dev is read as a test."""
    from mteb.mocks.mock_tasks import MockSTSTask

    evaluator = Mteb([mock_task], split="dev")
    with pytest.raises(ConfigError, match=f"evaluation.split=dev: {mock_task} have no dev or validation split beside"):
        evaluator.validate()
    with pytest.raises(ConfigError, match="MSMARCO have no dev or validation split"):
        Mteb(["MTOPIntentClassification", "MSMARCO"], split="dev").validate()
    asked, load = [], MockSTSTask.load_data

    def both(task, **options):
        load(task, **options)
        asked.append(list(task.eval_splits))
        task.dataset["validation"] = task.dataset["test"]

    metadata = MockSTSTask.metadata.model_copy(update={"eval_splits": ["validation", "test"]})
    monkeypatch.setattr(MockSTSTask, "metadata", metadata)
    monkeypatch.setattr(MockSTSTask, "load_data", both)
    evaluator.validate()
    results = evaluator(encoder, [])
    assert results.keys() == {"dev"}
    assert results["dev"].keys() == {mock_task}
    assert asked == [["validation"]]


def test_nothing_scores_nothing(encoder, eval_sets):
    Nothing().validate()
    assert Nothing()(encoder, eval_sets) == {}


def test_the_room_opens_without_mteb():
    code = "import sys, lightning_embed.evaluation; sys.exit('mteb' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
