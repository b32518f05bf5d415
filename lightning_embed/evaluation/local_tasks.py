"""An `EvalSet` as an mteb task, which computes the metrics of mteb on local data."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import xxhash
from datasets import Dataset
from mteb._evaluators.retrieval_metrics import mrr
from mteb.abstasks import AbsTask, AbsTaskClassification, AbsTaskClustering, AbsTaskRetrieval, AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.types import PromptType

from lightning_embed.errors import DataError
from lightning_embed.evaluation.metrics import Metric, parse_metrics
from lightning_embed.types import EvalSet, LabelSet, RetrievalSet, StsSet, Task


def to_task(eval_set: EvalSet, metrics: Sequence[Metric] = ()) -> AbsTask:
    """Make a fresh mteb task, because an evaluation advances the random state of some tasks.

    Args:
        eval_set: the data.
        metrics: metrics of this task, besides those that mteb always computes.

    Raises:
        DataError: the set is too small for its metric.
    """
    return _TASKS[eval_set.task](eval_set, metrics)


class LocalTask(AbsTask):
    """An mteb task on an `EvalSet`. It has the name of the dataset, so that prompts by dataset name apply.

    mteb hands nothing but texts to an encoder. A text with a prompt of its own is written as a key of `own_prompts`.

    Attributes:
        own_prompts: key -> (prompt, text).
    """

    task_type: ClassVar[str]
    main_score: ClassVar[str]

    def __init__(self, eval_set: EvalSet, metrics: Sequence[Metric]) -> None:
        self.eval_set = eval_set
        self.metrics = metrics
        self.details: dict[str, Any] = {}  # `each`, `more_each` and `gold` of the Score, after the evaluation
        self.own_prompts: dict[str, tuple[str, str]] = {}
        super().__init__()

    @cached_property  # not an attribute, because mteb deletes attributes when it unloads the data
    def metadata(self) -> TaskMetadata:
        """The metadata that mteb requires of a task."""
        name, split = self.eval_set.name, self.eval_set.split
        return TaskMetadata(
            name=name,
            description=f"The {split} set of {name}.",
            type=self.task_type,
            eval_splits=[split],
            eval_langs=["und-Latn"],  # undetermined
            main_score=self.main_score,
            dataset={"path": name, "revision": "local"},
        )

    def load_data(self, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """Set the content in the format of mteb."""
        self.dataset = {"default": self.rows(self.eval_set.content)}
        self.data_loaded = True

    def max_length(self, prompt_type: PromptType | None) -> int | None:
        """Maximum number of tokens of the texts of a role."""
        is_document = prompt_type is PromptType.document
        return self.eval_set.document_length if is_document else self.eval_set.query_length

    def _keyed(self, texts: Sequence[str], prompts: Sequence[str | None]) -> list[str]:
        """The texts, those with a prompt of their own as keys."""
        return [self._key(text, prompt) for text, prompt in zip(texts, prompts or [None] * len(texts), strict=True)]

    def _key(self, text: str, prompt: str | None) -> str:
        if prompt is None:
            return text
        key = f"text with its own prompt {xxhash.xxh128_hexdigest(repr((prompt, text)).encode())}"
        self.own_prompts[key] = prompt, text
        return key

    @abstractmethod
    def rows(self, content: Any) -> dict[str, Any]:
        """The content, by split."""

    def _require(self, condition: bool, what: str) -> None:
        if not condition:
            raise DataError(
                f"The {self.eval_set.split} set of {self.eval_set.name} needs {what}: add rows, or remove it."
            )


class _LocalRetrieval(LocalTask, AbsTaskRetrieval):
    """Retrieval, in ids of our own.

    mteb and trec_eval rank documents of equal scores by their ids, the last one first. Here the ids are drawn from the
    texts (a hash), so that ties do not depend on the spelling of ids or on the order of the corpus; documents of equal
    texts keep the order of the corpus. A query that is a document itself has the id of that document, which is left
    out of its ranking.
    """

    task_type = "Retrieval"
    main_score = "ndcg_at_10"
    ignore_identical_ids = True
    # mteb goes up to k = 1000, which gives the same nDCG@10 in five times the time (measured on 4,452 queries).
    k_values: Sequence[int] = (1, 3, 5, 10, 20, 100)

    def __init__(self, eval_set: EvalSet, metrics: Sequence[Metric]) -> None:
        self.k_values = tuple(sorted({*self.k_values, *(metric.k for metric in metrics if metric.k)}))
        super().__init__(eval_set, metrics or parse_metrics(["ndcg@10"]))
        assert isinstance(eval_set.content, RetrievalSet)
        self._top_k += bool(eval_set.content.copies)  # one is left out

    def rows(self, content: RetrievalSet) -> dict[str, Any]:
        relevant = any(grade > 0 for grades in content.qrels.values() for grade in grades.values())
        self._require(relevant, "a relevant document")
        document, query = _document_ids(content), _query_ids(content)
        corpus = [{"id": document[key], "title": "", **text} for key, text in content.corpus.items()]
        queries = [
            {"id": query[key], "text": self._key(text, content.prompts.get(key))}
            for key, text in content.queries.items()
        ]
        return {
            self.eval_set.split: {
                "corpus": Dataset.from_list(corpus),
                "queries": Dataset.from_list(queries),
                "relevant_docs": {
                    query[key]: {document[each]: grade for each, grade in grades.items()}
                    for key, grades in content.qrels.items()
                    if key in query
                },
                "top_ranked": None,
            }
        }

    def task_specific_scores(
        self,
        scores: dict[str, dict[str, float]],
        qrels: dict[str, dict[str, int]],
        results: dict[str, dict[str, float]],
        **kwargs: Any,
    ) -> dict[str, float]:
        """Keep the scores of every query, in the order of their ids in the files."""
        # `scores` are those of pytrec_eval, which lacks MRR@k: mteb computes it itself.
        ranks = [mrr(qrels, results, [metric.k]) for metric in self.metrics if metric.k and "mrr" in metric.key]
        by_query = {
            query: scores[query] | {name: values[i] for by_name in ranks for name, values in by_name.items()}
            for i, query in enumerate(results)
        }
        assert isinstance(self.eval_set.content, RetrievalSet)
        ids = _query_ids(self.eval_set.content)
        order = [ids[query] for query in sorted(ids) if ids[query] in scores]
        each = {m.word: [by_query[query][m.each] for query in order] for m in self.metrics if m.each}
        if (main := each.pop(self.metrics[0].word, None)) is not None:
            self.details["each"] = main
        if each:
            self.details["more_each"] = each
        means: dict[str, float] = super().task_specific_scores(scores, qrels, results, **kwargs)
        return means


def _document_ids(content: RetrievalSet) -> dict[str, str]:
    """Id -> an id by which ties are ranked: the last one first."""
    seen: Counter[str] = Counter()
    made = {}
    for key, document in content.corpus.items():
        drawn = xxhash.xxh64_hexdigest(f"{document.get('title', '')}\n{document['text']}".encode())
        seen[drawn] += 1
        made[key] = f"d{drawn}{10**9 - seen[drawn]}"
    return made


def _query_ids(content: RetrievalSet) -> dict[str, str]:
    """Id -> the id of its own copy among the documents, else one that no document has.

    Of queries with one text and different prompts, the first has the id of their copy: ids are distinct.
    """
    document = _document_ids(content) if content.copies else {}
    first = {copy: query for query, copy in sorted(content.copies.items(), reverse=True)}
    return {
        key: document[copy] if first.get(copy := content.copies.get(key, "")) == key else f"q{number:09}"
        for number, key in enumerate(sorted(content.queries))
    }


class _LocalSts(LocalTask, AbsTaskSTS):
    task_type = "STS"
    main_score = "cosine_spearman"

    def rows(self, content: StsSet) -> dict[str, Any]:
        self._require(len(set(content.score)) > 1, "two different scores")
        first, second = (self._keyed(texts, content.prompts) for texts in (content.text1, content.text2))
        columns = {"sentence1": first, "sentence2": second, "score": content.score}
        return {self.eval_set.split: _table(columns)}

    def _calculate_scores(self, scores: Any, normalized_scores: list[float]) -> Any:
        """Keep the similarity of every pair; mteb has no public hook for it."""
        self.details |= {"each": [round(float(s), 6) for s in scores["cosine_scores"]], "gold": list(normalized_scores)}
        return super()._calculate_scores(scores, normalized_scores)


class _LocalClassification(LocalTask, AbsTaskClassification):
    task_type = "Classification"
    main_score = "accuracy"

    def rows(self, content: LabelSet) -> dict[str, Any]:
        self._require(len(set(content.train_labels)) > 1, "train texts with two different labels")
        # The average precision that mteb computes for two classes fails on strings.
        number = {label: i for i, label in enumerate(sorted({*content.labels, *content.train_labels}))}
        learnt = self._keyed(content.train_texts, content.train_prompts)
        train = {"text": learnt, "label": [number[label] for label in content.train_labels]}
        texts = self._keyed(content.texts, content.prompts)
        held_out = {"text": texts, "label": [number[label] for label in content.labels]}
        return {"train": _table(train), self.eval_set.split: _table(held_out)}


class _LocalClustering(LocalTask, AbsTaskClustering):
    task_type = "Clustering"
    main_score = "v_measure"
    max_fraction_of_documents_to_embed = None  # the default of mteb is 4 %; a local set is used whole

    def rows(self, content: LabelSet) -> dict[str, Any]:
        self._require(len(set(content.labels)) > 1, "two different labels")
        texts = self._keyed(content.texts, content.prompts)
        return {self.eval_set.split: _table({"sentences": texts, "labels": content.labels})}


def _table(columns: dict[str, Any]) -> Dataset:
    return Dataset.from_dict({name: list(values) for name, values in columns.items()})


_TASKS: dict[Task, type[LocalTask]] = {
    Task.retrieval: _LocalRetrieval,
    Task.sts: _LocalSts,
    Task.classification: _LocalClassification,
    Task.clustering: _LocalClustering,
}
