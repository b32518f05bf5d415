import pytest

from lightning_embed.encoder.prompts import PromptSet
from lightning_embed.errors import ConfigError
from lightning_embed.types import Task

NAMES = ["query", "document", "sts", "retrieval-query", "retrieval", "squad", "squad-document"]


@pytest.mark.parametrize(
    ("task", "role", "dataset", "chosen"),
    [
        (Task.retrieval, "document", "squad", "squad-document"),
        (Task.retrieval, "query", "squad", "squad"),
        (Task.retrieval, "query", "other", "retrieval-query"),
        (Task.retrieval, "document", "other", "retrieval"),
        (Task.sts, "query", "stsb", "sts"),
        (Task.clustering, "query", "trec", ""),
    ],
)
def test_the_most_specific_prompt_is_chosen(task, role, dataset, chosen) -> None:
    assert PromptSet({name: name for name in NAMES}).choose(task, role, dataset) == chosen


def test_a_role_is_for_retrieval_only() -> None:
    prompts = PromptSet({"query": "q: "})
    assert prompts.choose(Task.retrieval, "query", "x") == "q: "
    assert prompts.choose(Task.retrieval, "document", "x") == ""
    assert prompts.choose(Task.classification, "query", "x") == ""


def test_the_default_prompt_is_for_texts_without_one() -> None:
    prompts = PromptSet({"sts": "s: ", "document": "d: "}, default="sts")
    assert (prompts.named(None), prompts.named("document")) == ("s: ", "d: ")
    assert prompts.choose(Task.clustering, "query", "x") == "s: "
    assert PromptSet().named(None) == ""
    with pytest.raises(ConfigError, match=r"no prompt 'documnt'. Did you mean 'document'"):
        prompts.named("documnt")


def test_mteb_understands_every_name_that_we_write() -> None:
    from mteb.models.abs_encoder import AbsEncoder

    names = ["query", "document", *Task, *(f"{task}-query" for task in Task)]
    prompts = PromptSet({name: name for name in names}, default="sts")
    written = prompts.to_sentence_transformers()
    AbsEncoder.validate_task_to_prompt_name(written["prompts"], raise_for_invalid_keys=True)
    assert written["prompts"]["STS"] == "sts"
    assert written["default_prompt_name"] == "STS"
    assert PromptSet.from_sentence_transformers(written) == prompts
