"""Local sets: scores computed by hand, the scores of the saved directory, silence, refusals."""

import math

import pytest
from scipy.stats import spearmanr

from lightning_embed.errors import ConfigError, DataError
from lightning_embed.evaluation import Local
from lightning_embed.types import EvalSet, LabelSet, RetrievalSet, StsSet, Task


def evaluate(encoder, content, task, split="test"):
    return Local()(encoder, [EvalSet("name", task, split, True, content)])[split]["name"]


def test_retrieval_equals_the_ndcg_computed_by_hand(angles):
    """The query lies at 0 degrees: documents come in the order near, middle, far. A title is read before its text."""
    corpus = {"1": {"title": "T", "text": "near"}, "2": {"text": "middle"}, "3": {"text": "far"}}
    content = RetrievalSet(corpus, {"q": "query"}, {"q": {"2": 2, "3": 1}})
    score = evaluate(angles({"query": 0, "T near": 10, "middle": 20, "far": 30}), content, Task.retrieval)
    gain = 2 / math.log2(3) + 1 / math.log2(4)
    best = 2 / math.log2(2) + 1 / math.log2(3)
    assert score["score"] == pytest.approx(100 * gain / best, abs=1e-2)
    assert score["metric"] == "ndcg_at_10"


def test_sts_equals_scipys_spearman(angles):
    degrees = {"a": 0, "b": 30, "c": 80, "d": 10, "e": 60, "f": 95}
    first, second, gold = ["a", "a", "b", "d"], ["b", "c", "e", "f"], [5.0, 1.0, 4.0, 3.0]
    cosines = [math.cos(math.radians(degrees[x] - degrees[y])) for x, y in zip(first, second, strict=True)]
    score = evaluate(angles(degrees), StsSet(first, second, gold), Task.sts)
    assert score["score"] == pytest.approx(100 * spearmanr(cosines, gold)[0], abs=1e-6)
    assert 0 < score["score"] < 100


def test_what_every_query_and_pair_scored_averages_and_correlates_to_the_score(measured):
    """In the order of the query ids, and of the pairs: so that two models can be compared row by row."""
    scores = measured["test"]
    nouns, pairs = scores["nouns"], scores["pairs"]
    assert len(nouns["each"]) == 9
    assert 100 * sum(nouns["each"]) / 9 == pytest.approx(nouns["score"], abs=1e-2)  # mteb rounds its mean
    assert len(pairs["each"]) == len(pairs["gold"]) == 9
    assert 100 * spearmanr(pairs["each"], pairs["gold"])[0] == pytest.approx(pairs["score"], abs=1e-4)
    assert "each" not in scores["sizes"]


@pytest.mark.parametrize("labels", [["x", "y"], ["x", "y", "z"]])  # two labels take another path through mteb
def test_classification_counts_right_answers(angles, labels):
    degrees = {f"{label}{i}": 120 * k + i for k, label in enumerate(labels) for i in range(6)}
    train = [text for text in degrees if text[1] in "0123"]
    held_out = [text for text in degrees if text[1] in "45"]
    gold = [text[0] for text in held_out]
    gold[0] = labels[-1]  # one answer that the probe cannot give
    content = LabelSet(held_out, gold, train, [text[0] for text in train])
    score = evaluate(angles(degrees), content, Task.classification)
    assert score["score"] == pytest.approx(100 * (1 - 1 / len(gold)))


def test_clustering_of_separate_groups_is_perfect_and_of_one_heap_is_not(angles):
    texts = [f"{label}{i}" for label in "xyz" for i in range(5)]
    content = LabelSet(texts, [text[0] for text in texts])
    apart = angles({text: 120 * "xyz".index(text[0]) + int(text[1]) / 10 for text in texts})
    heap = angles({text: 1.7 * hash(text[1]) % 7 for text in texts})
    assert evaluate(apart, content, Task.clustering)["score"] == pytest.approx(100)
    assert evaluate(heap, content, Task.clustering)["score"] < 70


@pytest.mark.filterwarnings("ignore")  # mteb is called as its users call it: not silenced
def test_scores_equal_those_of_mteb_on_the_saved_directory(encoder, eval_sets, measured, tmp_path):
    import mteb
    from sentence_transformers import SentenceTransformer

    from lightning_embed.evaluation.local_tasks import to_task

    encoder.save(tmp_path)
    model = SentenceTransformer(str(tmp_path))
    for eval_set in eval_sets:
        result = mteb.evaluate(model, to_task(eval_set), cache=None, show_progress_bar=False)
        score = measured[eval_set.split][eval_set.name]
        assert score["score"] / 100 == pytest.approx(result.task_results[0].get_score(), abs=1e-4)
        assert -100 < score["score"] < 100
        assert (score["task"], score["in_domain"]) == (eval_set.task, eval_set.in_domain)


def test_every_text_gets_the_prompt_of_its_task_role_and_dataset(angles, eval_sets):
    texts = {text for eval_set in eval_sets for text in _texts(eval_set.content)}
    encoder = angles({text: i for i, text in enumerate(texts)})
    Local(splits=["test"])(encoder, eval_sets)
    assert encoder.seen == [
        *("nouns retrieval query", "nouns retrieval document"),
        *("pairs sts query", "pairs sts query"),
        *("sizes classification query", "sizes classification query"),
        "groups clustering query",
    ]


def _texts(content):
    if isinstance(content, RetrievalSet):
        documents = [f"{doc.get('title', '')} {doc['text']}".strip() for doc in content.corpus.values()]
        return [*content.queries.values(), *documents]
    return [*content.text1, *content.text2] if isinstance(content, StsSet) else [*content.texts, *content.train_texts]


def test_a_second_evaluation_gives_the_same_scores(encoder, eval_sets, measured):
    assert Local()(encoder, eval_sets) == measured


def test_nothing_is_printed_or_stored(encoder, eval_sets, capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Local()(encoder, eval_sets)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


def test_only_the_chosen_splits_are_evaluated(encoder, eval_sets):
    assert Local(splits=["dev"])(encoder, eval_sets).keys() == {"dev"}


def test_dev_is_cut_and_test_is_not(encoder, eval_sets, measured):
    """With no document but the relevant ones, a single query cannot miss."""
    cut = Local(max_dev_queries=1, max_dev_documents=1)(encoder, eval_sets)
    assert cut["dev"]["nouns"]["score"] > measured["dev"]["nouns"]["score"]
    assert cut["test"] == measured["test"]


@pytest.mark.parametrize(
    ("task", "content"),
    [
        (Task.retrieval, RetrievalSet({"d": {"text": "a"}}, {"q": "b"}, {"q": {"d": 0}})),
        (Task.sts, StsSet(["a", "b"], ["b", "a"], [1.0, 1.0])),
        (Task.classification, LabelSet(["a", "b"], ["x", "y"])),
        (Task.clustering, LabelSet(["a", "b"], ["x", "x"])),
    ],
)
def test_sets_without_a_defined_metric_are_refused(angles, task, content):
    with pytest.raises(DataError, match="test set of name needs"):
        evaluate(angles({"a": 0, "b": 1}), content, task)


def test_equal_embeddings_are_refused_not_scored_nan(angles):
    content = StsSet(["a", "b", "a"], ["b", "a", "a"], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="cosine_spearman is nan"):
        evaluate(angles({"a": 0, "b": 0}), content, Task.sts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"splits": ["tset"]}, "'test'"),
        ({"max_dev_queries": 0}, "1 or more"),
        ({"dtype": "float16"}, "evaluation.dtype: expected float32 or bfloat16, got 'float16'"),
    ],
)
def test_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Local(**options)


def _ndcg(encoder, corpus, queries, qrels, copies=None, metrics=None):
    content = RetrievalSet({key: {"text": text} for key, text in corpus.items()}, queries, qrels, copies or {})
    return Local(metrics=metrics)(encoder, [EvalSet("name", Task.retrieval, "test", True, content)])["test"]["name"]


def test_the_own_copy_of_a_query_is_left_out_of_its_ranking_only(angles):
    """ArguAna: each query is a document; its answer is the document beside it."""
    degrees = {f"claim {i}": 60 * i for i in range(6)} | {f"counter {i}": 60 * i + 5 for i in range(6)}
    corpus = {text: text for text in degrees}
    queries = {f"claim {i}": f"claim {i}" for i in range(6)}
    qrels = {query: {query.replace("claim", "counter"): 1} for query in queries}
    encoder = angles(degrees)
    metrics = ["ndcg@10", "mrr@10", "recall@1"]
    kept = _ndcg(encoder, corpus, queries, qrels, metrics=metrics)
    left_out = _ndcg(encoder, corpus, queries, qrels, {query: query for query in queries}, metrics=metrics)
    assert kept["score"] == pytest.approx(100 / math.log2(3), abs=1e-2)
    assert kept["more"] == {"mrr@10": 50, "recall@1": 0}
    assert left_out["score"] == 100
    assert left_out["more"] == {"mrr@10": 100, "recall@1": 100}
    one = _ndcg(encoder, corpus, queries, qrels, {"claim 3": "claim 3"}, metrics=metrics)
    assert one["each"] == [pytest.approx(1 / math.log2(3))] * 3 + [1] + [pytest.approx(1 / math.log2(3))] * 2


def test_an_id_that_is_shared_by_chance_leaves_out_nothing(angles):
    corpus, qrels = {"1": "near", "2": "far"}, {"1": {"1": 1}, "2": {"2": 1}}
    score = _ndcg(angles({"q": 0, "r": 90, "near": 1, "far": 89}), corpus, {"1": "q", "2": "r"}, qrels)
    assert score["each"] == [1, 1]


def test_the_hundredth_document_counts_where_the_own_copy_is_left_out(angles):
    corpus = {f"d{i:03}": f"text {i}" for i in range(101)}
    degrees = {text: i for i, text in enumerate(corpus.values())}
    qrels = {"q": {"d100": 1}}
    score = _ndcg(angles(degrees), corpus, {"q": "text 0"}, qrels, {"q": "d000"}, ["recall@100"])
    assert score["score"] == 100


@pytest.mark.parametrize("heap", ["all", "some"])
@pytest.mark.parametrize(
    "spelled",
    [
        lambda i: f"{i}",
        lambda i: f"{99 - i:02}",
        lambda i: f"z{i}",
        lambda i: f"d{i * 7919 % 101}",
        lambda i: "é" * (i + 1),
        lambda i: f"q{i:09}",
        lambda i: f"d{'f' * 16}{i}",
    ],
)
def test_ties_do_not_depend_on_the_spelling_of_ids(angles, spelled, heap):
    """Equal scores: every document (a model that tells nothing apart), or every other one."""
    texts = [f"text {i}" for i in range(30)]
    degrees = {text: 0 if heap == "all" or i % 2 else i for i, text in enumerate(texts)}
    encoder = angles(degrees | {f"query {i}": 0 for i in range(10)})
    metrics = ["ndcg@10", "mrr@10", "map@10", "recall@5"]

    def score(name, query):
        qrels = {query(i): {name(i): 1, name(i + 9): 2} for i in range(10)}
        corpus = {name(i): text for i, text in enumerate(texts)}
        return _ndcg(encoder, corpus, {query(i): f"query {i}" for i in range(10)}, qrels, metrics=metrics)

    plain, other = score(lambda i: f"d{i:02}", lambda i: f"q{i}"), score(spelled, spelled)
    assert other["score"] == plain["score"]
    assert other["more"] == plain["more"]
    assert sorted(other["each"]) == sorted(plain["each"])
    assert 0 < plain["score"] < 80, "a tie favours nobody"


def test_ties_of_equal_texts_keep_the_order_of_the_corpus(angles):
    qrels = {"q": {"z": 1}}
    encoder = angles({"q": 0, "same": 10})
    assert _ndcg(encoder, {"z": "same", "a": "same"}, {"q": "q"}, qrels)["score"] == 100
    assert _ndcg(encoder, {"a": "same", "z": "same"}, {"q": "q"}, qrels)["score"] == pytest.approx(63.09, abs=1e-2)


@pytest.mark.parametrize("grade", [-2, -1, 0])
def test_grades_below_one_are_not_relevant(angles, grade):
    """TREC has negative grades."""
    corpus, encoder = {"a": "near", "b": "far"}, angles({"q": 0, "near": 1, "far": 50})
    score = _ndcg(encoder, corpus, {"q": "q"}, {"q": {"a": grade, "b": 1}}, metrics=["ndcg@10", "mrr@10"])
    assert score["score"] == pytest.approx(100 / math.log2(3), abs=1e-2)
    assert score["more"] == {"mrr@10": 50}
