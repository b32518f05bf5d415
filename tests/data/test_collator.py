"""SimCSE: a query that is its own positive is two texts of the batch, and one text to the losses."""

import pytest
import torch

from lightning_embed.data import DatasetOptions
from lightning_embed.data.collator import Collator, Planned, RowPrompts
from lightning_embed.data.row_groups import Group, Rows
from lightning_embed.sampler import BatchPlan
from lightning_embed.types import Batch, Task
from tests.data.conftest import Words


def _batch(*groups: Group, prompts: RowPrompts = RowPrompts(), task: Task = Task.retrieval) -> Batch:  # noqa: B008
    from datasets import Dataset

    rows = Rows("d", DatasetOptions(task, path="."), Dataset.from_dict({"query": ["a"]}))
    plan = BatchPlan("d", torch.arange(len(groups)))
    (batch,) = Collator({"d": rows}, Words(), {"d": prompts})([Planned(plan, groups)])
    return batch


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
