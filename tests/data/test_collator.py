"""SimCSE: a query that is its own positive is two texts of the batch, and one text to the losses."""

import pytest
import torch

from lightning_embed.data import DatasetOptions
from lightning_embed.data.collator import Collator, Planned, RowPrompts
from lightning_embed.data.row_groups import Group, Rows
from lightning_embed.sampler import BatchPlan
from lightning_embed.types import Batch, Task
from tests.data.conftest import Words


def _batch(
    *groups: Group,
    prompts: RowPrompts = RowPrompts(),  # noqa: B008
    task: Task = Task.retrieval,
    **options: int,
) -> Batch:
    from datasets import Dataset

    rows = Rows("d", DatasetOptions(task, path=".", **options), Dataset.from_dict({"query": ["a"]}))
    plan = BatchPlan("d", torch.arange(len(groups)))
    (batch,) = Collator({"d": rows}, Words(), {"d": prompts})([Planned(plan, groups)])
    return batch


def _lengths(batch: Batch, role: torch.Tensor) -> list[int]:
    return batch.tokens.lengths[role.flatten()].tolist()


@pytest.mark.parametrize("task", [Task.retrieval, Task.classification, Task.clustering])
@pytest.mark.parametrize(
    ("groups", "texts"),
    [
        ([Group("a", ["a"], []), Group("b", ["b"], [])], 4),
        ([Group("a", ["a"], []), Group("b", ["c"], [])], 4),
        ([Group("a", ["x", "a"], []), Group("b", ["c"], [])], 5),
        ([Group("a", ["a", "a"], []), Group("b", ["c"], [])], 4),
        ([Group("a", ["a"], []), Group("b", ["a"], [])], 3),
        ([Group("b", ["a"], []), Group("a", ["a"], [])], 3),
        ([Group("a", ["a"], []), Group("b", ["c"], ["a"])], 4),
        ([Group("a", ["a"], ["a"]), Group("b", ["c"], ["b"])], 4),
        ([Group("a", ["a"], []), Group("a", ["a"], [])], 2),
        ([Group("a", ["a"], []), Group("a", ["b"], [])], 3),
    ],
)
def test_a_query_and_its_own_positive_are_two_texts(task: Task, groups: list[Group], texts: int) -> None:
    batch = _batch(*groups, task=task)
    assert len(batch.tokens) == len(batch.hashes) == texts
    for row, group in enumerate(groups):
        for index, text in zip(batch.positives[row].tolist(), group.positives, strict=False):
            own = int(batch.query[row])
            assert index != own
            assert (batch.hashes[index] == batch.hashes[own]) == (text == group.query)
            if text == group.query:
                start, end = batch.tokens.offsets[[own, index]], batch.tokens.offsets[[own + 1, index + 1]]
                assert batch.tokens.ids[start[0] : end[0]].equal(batch.tokens.ids[start[1] : end[1]])
    documents = torch.cat([batch.positives.flatten(), batch.negatives.flatten()])
    assert len(documents[documents >= 0].unique()) == len({t for g in groups for t in (*g.positives, *g.negatives)})


@pytest.mark.parametrize(
    "groups",
    [
        [Group("a", ["b"], []), Group("b", ["a"], [])],  # the positive of another row is no second view
        [Group("a", ["b"], ["a"]), Group("c", ["b"], ["c"])],
        [Group("a", ["a"], [], 1.0), Group("b", ["b"], [], 0.0)],  # graded pairs stay as they are
    ],
)
def test_other_equal_texts_are_one_text(groups: list[Group]) -> None:
    batch = _batch(*groups, task=Task.sts if groups[0].score is not None else Task.retrieval)
    assert len(batch.hashes.unique()) == len(batch.hashes)


def test_prompts_make_two_texts_already() -> None:
    batch = _batch(Group("a", ["a"], []), Group("b", ["c"], ["a"]), prompts=RowPrompts("query: ", "passage: "))
    assert len(batch.tokens) == 4
    assert len(batch.hashes.unique()) == 3


def test_queries_and_documents_have_their_own_lengths() -> None:
    """In tokens of the prompted text; one text in both roles is two, unless prompt and length are the same."""
    long = "one two three four five"
    groups = [Group(long, [f"{long} six"], [long]), Group(f"{long} seven", ["short"], [])]
    given = {"prompts": RowPrompts("query: ", "passage: ")}
    both = _batch(*groups, **given, query_max_length=3, document_max_length=5)
    assert _lengths(both, both.query) == [3, 3]
    assert _lengths(both, both.positives) == [5, 2]
    assert _lengths(both, both.negatives[0]) == [5]
    one = _batch(*groups, **given, max_length=4, document_max_length=5)
    assert _lengths(one, one.query) + _lengths(one, one.positives) == [4, 4, 5, 2]
    plain = _batch(*groups, max_length=4, query_max_length=3)
    assert _lengths(plain, plain.query) + _lengths(plain, plain.positives) == [3, 3, 4, 1]
    assert int(plain.query[0]) != int(plain.negatives[0, 0])
    assert plain.hashes[plain.query[0]] == plain.hashes[plain.negatives[0, 0]]
    same = _batch(*groups, max_length=4)
    assert int(same.query[0]) == int(same.negatives[0, 0])


@pytest.mark.parametrize("task", [Task.sts, Task.classification, Task.clustering])
def test_tasks_without_documents_have_the_length_of_queries(task: Task) -> None:
    score = 0.5 if task is Task.sts else None
    batch = _batch(Group("a b c d", ["e f g h"], [], score), task=task, max_length=4, query_max_length=3)
    assert _lengths(batch, batch.query) + _lengths(batch, batch.positives) == [3, 3]


def test_a_prompt_of_a_row_replaces_that_of_the_dataset() -> None:
    """Of the query alone in retrieval; an empty one too. Equal texts with different prompts are two texts of one hash."""
    groups = [
        Group("a", ["b"], [], prompt="own one "),
        Group("a", ["b"], [], prompt=""),
        Group("a", ["b"], []),
    ]
    batch = _batch(*groups, prompts=RowPrompts("the query: ", "passage: "))
    assert _lengths(batch, batch.query) == [3, 1, 3]
    assert len(set(batch.query.tolist())) == 3
    assert len(batch.hashes[batch.query].unique()) == len(set(batch.positives.flatten().tolist())) == 1
    assert _lengths(batch, batch.positives) == [2, 2, 2]
    own = Group("a", ["b", "c"], ["d"], None, prompt="x ", positive_prompts=["y z ", None], negative_prompts=[""])
    labels = _batch(own, prompts=RowPrompts("of the task ", "of the task "), task=Task.classification)
    assert _lengths(labels, labels.query) == [2]
    assert _lengths(labels, labels.positives) == [3, 4]
    assert _lengths(labels, labels.negatives) == [1]


def test_the_tokenizer_knows_the_prompts(tiny_model) -> None:
    """So that a pooling with include_prompt: false can leave their tokens out."""
    from datasets import Dataset

    from lightning_embed.encoder import Encoder, EncoderOptions

    tokenizer = Encoder(EncoderOptions(str(tiny_model))).tokenizer
    tokenizer.counts_prompts = True
    rows = Rows("d", DatasetOptions(Task.retrieval, path="."), Dataset.from_dict({"query": ["a"]}))
    groups = [Group("cat", ["dog"], [], prompt="the big "), Group("king", ["queen"], [])]
    collate = Collator({"d": rows}, tokenizer, {"d": RowPrompts("red ", "")})
    (batch,) = collate([Planned(BatchPlan("d", torch.arange(2)), groups)])
    assert batch.tokens.prompts[batch.query].tolist() == [3, 2]  # [CLS] and the words
    assert batch.tokens.prompts[batch.positives[:, 0]].tolist() == [0, 0]
