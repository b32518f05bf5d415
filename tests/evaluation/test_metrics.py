"""Metrics by word: mteb's own numbers, the way from the word to every output, refusals."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from lightning_embed.config.compose import check_command
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.evaluation import Local, Mteb
from lightning_embed.evaluation.local_tasks import to_task
from lightning_embed.evaluation.metrics import K_VALUES, METRICS, metrics_of, parse_metrics
from lightning_embed.evaluation.score_task import run as run_task
from lightning_embed.report import Run
from lightning_embed.report.scores.bootstrap import interval, resampled
from lightning_embed.report.scores.summary import by, metric
from lightning_embed.run import train
from lightning_embed.types import EvalSet, RetrievalSet, StsSet, Task
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

ALL = [
    *(f"{name}@{k}" for name in ("recall", "ndcg", "mrr", "map", "precision", "hit_rate") for k in (1, 3, 1000)),
    *("pearson", "spearman", "f1", "accuracy", "f1_weighted", "v_measure"),
]
ARRIVALS = {"q": ["b", "a", "c", "d"], "r": ["d", "c", "b", "a"]}  # what each query finds, nearest first
RELEVANT = {"q": {"a": 1, "d": 1}, "r": {"d": 2, "a": 1, "b": 1}}


@pytest.fixture
def six(angles):
    """A corpus of four on a circle and two queries, with the encoder that finds as ARRIVALS has it."""
    content = RetrievalSet({name: {"text": name} for name in "abcd"}, {"q": "q", "r": "r"}, RELEVANT)
    return angles({"q": 0, "b": 5, "a": -10, "c": 20, "d": 40, "r": 45}), content


def scored(encoder, content, task, metrics):
    return Local(metrics=metrics)(encoder, [EvalSet("name", task, "test", True, content)])["test"]["name"]


def test_the_corpus_is_found_as_the_arrivals_say(six):
    encoder, _ = six
    for query, found in ARRIVALS.items():
        distances = {name: abs(encoder.degrees[name] - encoder.degrees[query]) for name in "abcd"}
        assert sorted(distances, key=distances.get) == found


@pytest.mark.parametrize("k", [1, 3])
def test_recall_and_mrr_equal_those_counted_by_hand(six, k):
    score = scored(*six, Task.retrieval, [f"recall@{k}", f"mrr@{k}"])
    recalls, ranks = [], []
    for query, found in ARRIVALS.items():
        hits = [name in RELEVANT[query] for name in found[:k]]
        recalls.append(sum(hits) / len(RELEVANT[query]))
        ranks.append(1 / (1 + hits.index(True)) if any(hits) else 0.0)
    assert (score["metric"], score["score"]) == (f"recall_at_{k}", pytest.approx(50 * sum(recalls), abs=1e-3))
    assert score["more"] == {f"mrr@{k}": pytest.approx(50 * sum(ranks))}
    assert score["each"] == pytest.approx(recalls)
    assert score["more_each"] == {f"mrr@{k}": pytest.approx(ranks)}


def test_pearson_equals_scipys(angles):
    degrees = {"a": 0, "b": 30, "c": 80, "d": 10, "e": 60, "f": 95}
    first, second, gold = ["a", "a", "b", "d"], ["b", "c", "e", "f"], [5.0, 1.0, 4.0, 3.0]
    cosines = [np.cos(np.radians(degrees[x] - degrees[y])) for x, y in zip(first, second, strict=True)]
    score = scored(angles(degrees), StsSet(first, second, gold), Task.sts, ["pearson", "spearman"])
    assert score["score"] == pytest.approx(100 * pearsonr(cosines, gold)[0], abs=1e-4)
    assert score["more"] == {"spearman": pytest.approx(100 * spearmanr(cosines, gold)[0])}


@pytest.mark.filterwarnings("ignore")  # mteb is called as its users call it: not silenced
def test_every_metric_is_the_number_that_mteb_reports(encoder, eval_sets, tmp_path):
    import mteb
    from sentence_transformers import SentenceTransformer

    encoder.save(tmp_path)
    model, ours = SentenceTransformer(str(tmp_path)), Local(metrics=ALL)(encoder, eval_sets)
    seen = set()
    for eval_set in eval_sets:
        wanted = metrics_of(ALL, eval_set.task)
        result = mteb.evaluate(model, to_task(eval_set, wanted), cache=None, show_progress_bar=False)
        (theirs,) = result.task_results[0].scores[eval_set.split]
        score = ours[eval_set.split][eval_set.name]
        assert score["metric"] == wanted[0].key
        found = {wanted[0].word: score["score"], **score.get("more", {})}
        assert found == {m.word: pytest.approx(100 * theirs[m.key], abs=1e-2) for m in wanted}
        seen |= set(found)
    assert seen == set(ALL)
    assert {re.sub(r"@\d+", "@k", word) for word in ALL} == {m.word for m in METRICS}, "a new metric is tested here"


def test_what_every_query_scored_averages_to_the_metric(encoder, eval_sets):
    words = [word for word in ALL if "@" in word]
    score = Local(["test"], metrics=words)(encoder, eval_sets[:1])["test"]["nouns"]
    each = {words[0]: score["each"], **score["more_each"]}
    assert each.keys() == set(words)
    for word, values in each.items():
        assert len(values) == 9
        assert 100 * np.mean(values) == pytest.approx({words[0]: score["score"], **score["more"]}[word], abs=1e-2), word


@pytest.mark.slow
def test_without_metrics_and_with_the_default_ones_scores_are_the_same(encoder, eval_sets):
    named = Local(metrics=["ndcg@10", "spearman", "accuracy", "v_measure"])(encoder, eval_sets)
    assert named == Local()(encoder, eval_sets) == Local(metrics=[])(encoder, eval_sets)


def test_a_task_without_a_metric_in_the_list_keeps_its_own(encoder, eval_sets):
    scores = Local(["test"], metrics=["f1"])(encoder, eval_sets)["test"]
    assert {name: score["metric"] for name, score in scores.items()} == {
        "nouns": "ndcg_at_10", "pairs": "cosine_spearman", "sizes": "f1", "groups": "v_measure",
    }  # fmt: skip
    assert not any("more" in score for score in scores.values())


def test_a_cached_score_without_a_metric_is_not_taken_for_one_with_it(eval_sets):
    def keys(*metrics):
        return {part.name: part.key for part in Local(["test"], metrics=metrics).parts(eval_sets)}

    plain, more = keys(), keys("ndcg@10", "recall@100")
    assert {name for name in plain if plain[name] != more[name]} == {"nouns"}, "other tasks are not measured again"
    assert keys("recall@100", "ndcg@10")["nouns"] not in (plain["nouns"], more["nouns"])


def test_k_is_what_mteb_computes_for_every_retrieval_task():
    from mteb.abstasks import AbsTaskRetrieval
    from mteb.get_tasks import TASK_LIST

    assert set(AbsTaskRetrieval.k_values) == set(K_VALUES)
    texts = [task for task in TASK_LIST if task.metadata.modalities == ["text"] and task.metadata.type == "Retrieval"]
    assert all(set(K_VALUES) <= set(task.k_values) for task in texts if hasattr(task, "k_values"))


@pytest.mark.parametrize("evaluator", [Local, Mteb])
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("recal@100", r"evaluation.metrics: no metric 'recal@100'. Did you mean 'recall@k'"),
        ("Pearson", "no metric 'Pearson'. Did you mean 'pearson'"),
        ("NDCG@10", "Did you mean 'ndcg@k'"),
        ("recall", "Did you mean 'recall@k'.* k is one of 1, 3, 5, 10, 20, 100, 1000, e.g. recall@100"),
        ("recall@k", "no metric 'recall@k'"),
        ("pearson@10", "no metric 'pearson@10'"),
        ("ndcg@7", "'ndcg@7' is not computed by mteb. Use ndcg@k with k one of 1, 3, 5"),
        ("ndcg@010", "'ndcg@010' is not computed"),
    ],
)
def test_words_are_refused_where_the_evaluator_is_built(evaluator, word, message):
    with pytest.raises(ConfigError, match=message):
        evaluator(metrics=["spearman", word])


def test_a_sweep_is_refused_before_it_starts():
    words = ["data=sample", "seed=1,2"]
    check_command("train", [*words, "evaluation.metrics=[recall@100]"], multirun=True)
    with pytest.raises(ConfigError, match="Did you mean 'recall@k'"):
        check_command("train", [*words, "evaluation.metrics=[recal@100]"], multirun=True)


def test_a_word_given_twice_counts_once():
    assert [m.word for m in parse_metrics(["mrr@10", "f1", "mrr@10"])] == ["mrr@10", "f1"]


def test_benchmark_tasks_and_the_runs_own_sets_take_the_metrics(encoder, eval_sets, monkeypatch):
    from mteb.mocks.mock_tasks import MockSTSTask

    from lightning_embed.evaluation import benchmark

    monkeypatch.setattr(benchmark, "get_tasks", lambda names, _: [MockSTSTask() for _ in names])
    words = ["pearson", "recall@1", "spearman"]
    scores = Mteb([MockSTSTask.metadata.name], local=Local(["test"]), metrics=words)(encoder, eval_sets)["test"]
    for name in (MockSTSTask.metadata.name, "pairs"):
        assert scores[name]["metric"] == "cosine_pearson"
        assert scores[name]["more"].keys() == {"spearman"}
    assert scores["nouns"]["metric"] == "recall_at_1"
    own = Mteb([], local=Local(["test"], metrics=["f1"]), benchmark=None, metrics=words)
    assert own.local.metrics == own._own.metrics == ["f1"]


def test_an_aggregate_of_tasks_has_the_mean_of_each_metric(encoder, eval_sets):
    """CQADupstackRetrieval is one: mteb's own result of it has its main metric alone."""
    from mteb.abstasks.aggregate_task_metadata import AggregateTaskMetadata
    from mteb.abstasks.aggregated_task import AbsTaskAggregate

    words = ["recall@1", "mrr@3"]
    sets = [EvalSet(name, Task.retrieval, "test", True, eval_sets[0].content) for name in ("one", "other")]
    other = {**eval_sets[0].content.qrels, "q0": {"d5": 1}, "q1": {"d7": 1}}
    sets[1] = EvalSet(
        "other", Task.retrieval, "test", True, RetrievalSet(sets[0].content.corpus, sets[0].content.queries, other)
    )

    class Both(AbsTaskAggregate):
        metadata = AggregateTaskMetadata(
            name="both", description="Both.", tasks=[to_task(each, metrics_of(words, "retrieval")) for each in sets],
            main_score="ndcg_at_10", type="Retrieval", eval_splits=["test"], eval_langs=["und-Latn"],
        )  # fmt: skip

    found = run_task(encoder, Both(), True, metrics_of(words, "retrieval"))
    alone = Local(metrics=words)(encoder, sets)["test"]
    assert alone["one"] != alone["other"]
    assert found["score"] == pytest.approx((alone["one"]["score"] + alone["other"]["score"]) / 2)
    assert found["more"]["mrr@3"] == pytest.approx(np.mean([each["more"]["mrr@3"] for each in alone.values()]))
    assert run_task(encoder, Both(), True)["metric"] == "ndcg_at_10"


def test_a_metric_that_mteb_lacks_for_a_task_is_named(encoder, eval_sets):
    (recall,) = parse_metrics(["recall@1"])
    with pytest.raises(DataError, match="pairs: mteb computes no 'recall_at_1' for it"):
        run_task(encoder, to_task(eval_sets[2]), True, [recall])


def test_intervals_of_further_metrics(encoder, eval_sets):
    """Recall@1 of every query is 0 or 1; Pearson is resampled with its pairs, as Spearman is."""
    ours = Local(["test"], metrics=["ndcg@10", "recall@1", "spearman", "pearson"])(encoder, eval_sets[:3])
    theirs = json.loads(json.dumps(ours))
    nouns, pairs = theirs["test"]["nouns"], theirs["test"]["pairs"]
    nouns["more_each"]["recall@1"] = [0.0] * 9
    nouns["more"]["recall@1"] = 0.0
    found = interval({0: by(ours, "recall@1")}, {0: by(theirs, "recall@1")}, "test")
    assert found.difference == pytest.approx(ours["test"]["nouns"]["more"]["recall@1"])
    assert found.low < found.difference < found.high
    same = interval({0: ours}, {0: theirs}, "test")
    assert same.low == same.high == 0, "the main metrics are equal"
    samples = resampled(by(ours, "pearson")["test"]["pairs"], "pairs", 2000)
    rows = np.random.default_rng(0).integers(9, size=(2000, 9))
    each, gold = np.array(pairs["each"]), np.array(pairs["gold"])
    expected = [100 * pearsonr(each[drawn], gold[drawn])[0] for drawn in rows if len(set(drawn)) > 3]
    assert np.median(samples) == pytest.approx(np.median(expected), abs=4)
    assert samples.std() == pytest.approx(np.std(expected), rel=0.2)


@pytest.fixture(scope="module")
def run(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float | None]:
    """A whole run: the words of the command line, and its optimized_metric."""
    folder = tmp_path_factory.mktemp("metrics")
    more = [
        "evaluation.metrics=[recall@3,mrr@10,ndcg@10,pearson,spearman]", "experts=joint", "logger=csv", "callback=evaluate", "seed=1",
        "callback.while_training.evaluation.metrics=[ndcg@10,recall@1]",
    ]  # fmt: skip
    overrides = [each for each in _overrides(tiny_model, write_toy(folder), folder / "run") if "callback" not in each]
    return folder / "run", train.train(_cfg("train", [*overrides, *more]))


@pytest.mark.filterwarnings("ignore")
class TestOutputs:
    """Of a run with two metrics of one task and three of another: where each number arrives."""

    def test_the_first_metric_decides(self, run):
        out, optimized = run
        dev = Run(out, _evaluation(out)).models["joint"]["dev"]
        assert {name: score["metric"] for name, score in dev.items()} == {
            "facts": "recall_at_3", "phrases": "cosine_pearson",
        }  # fmt: skip
        assert optimized == pytest.approx((dev["facts"]["score"] + dev["phrases"]["score"]) / 2)
        assert metric({"joint": {"dev": dev}}, "joint", "dev/retrieval") == dev["facts"]["score"]

    def test_results_json_has_all(self, run):
        out, _ = run
        for splits in json.loads((out / "results.json").read_text())["models"].values():
            for tests in splits.values():
                assert tests["facts"]["more"].keys() == {"mrr@10", "ndcg@10"}
                assert tests["phrases"]["more"].keys() == {"spearman"}
                assert "more_each" not in tests["facts"]
        each = json.loads((out / "each" / "joint.json").read_text())["test"]["facts"]["more_each"]
        assert {word: len(values) for word, values in each.items()} == {"mrr@10": 8, "ndcg@10": 8}

    def test_the_terminal_shows_all_at_80_columns(self, run):
        out, _ = run
        import io

        from rich.console import Console

        found = Run(out, _evaluation(out))
        console = Console(file=io.StringIO(), width=80)
        found.print(console, list(found.models))
        lines = console.file.getvalue().splitlines()
        assert max(map(len, lines)) <= 80
        shown = [line.split() for line in lines]
        base = found.models["base"]["test"]
        facts = max(i for i, cells in enumerate(shown) if cells[:2] == ["facts", "recall@3"])
        assert [cells[0] for cells in shown[facts + 1 : facts + 3]] == ["MRR@10", "nDCG@10"]
        assert f"{base['facts']['more']['mrr@10']:.2f}" in shown[facts + 1][1]
        assert shown[facts + 4][0] == "Spearman"

    def test_the_page_and_the_card_have_all_with_intervals(self, run):
        out, _ = run
        points = Run(out, _evaluation(out)).models["joint"]["test"]["facts"]["more"]["mrr@10"]
        card = (out / "models" / "joint" / "README.md").read_text()
        for text in ((out / "report.html").read_text(), card):
            assert re.search(rf"MRR@10: On test in domain it scores {points:.2f}.*\(95 % interval .* noise", text)
            assert "Spearman: On test in domain it scores" in text
        assert f"<td>{points:.2f}" in (out / "report.html").read_text().replace('<span class="best">', "")
        assert f"type: mrr@10\n      value: {round(points, 2)}" in card

    def test_the_loggers_get_every_number_under_its_word(self, run):
        out, _ = run
        (folder,) = [file for file in (out / "logs").glob("*/version_0/metrics.csv") if "joint" not in str(file)]
        with folder.open() as file:
            logged = {key: value for row in csv.DictReader(file) for key, value in row.items() if value}
        facts = Run(out, _evaluation(out)).models["joint"]["test"]["facts"]
        assert float(logged["test/facts"]) == pytest.approx(facts["score"])
        assert float(logged["test/facts/mrr@10"]) == pytest.approx(facts["more"]["mrr@10"])
        assert float(logged["test_in_domain/retrieval/ndcg@10"]) == pytest.approx(facts["more"]["ndcg@10"])
        assert "dev/sts/spearman" in logged

    def test_scores_while_training_have_the_words_too(self, run):
        out, _ = run
        header = (out / "logs" / "joint" / "version_0" / "metrics.csv").read_text().splitlines()[0]
        assert "while_training/dev/facts/recall@1" in header
        assert "while_training/dev/facts," in header + ","


def _evaluation(out: Path) -> str:
    (found,) = set(json.loads((out / "results.json").read_text())["evaluations"].values())
    return found
