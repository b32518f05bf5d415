"""The columns of each format, and the line that reads others."""

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from lightning_embed.data import DatasetOptions
from lightning_embed.data.column_names import as_override, chosen, quoted, suggestion
from lightning_embed.data.options import Format
from lightning_embed.errors import ConfigError
from lightning_embed.types import Task


@pytest.mark.parametrize(
    ("task", "columns", "line"),
    [
        (Task.retrieval, ["question", "answer", "id"], "{query: question, positives: answer}"),
        (Task.retrieval, ["query", "positive", "negative"], "{positives: positive, negatives: negative}"),
        (Task.retrieval, ["query", "pos", "neg_1", "neg_2"], ""),  # FlagEmbedding's: nothing is missing but negatives
        (Task.retrieval, ["query", "text"], "{positives: text}"),
        (Task.retrieval, ["premise", "hypothesis"], "{query: premise, positives: hypothesis}"),
        (Task.retrieval, ["query", "gold answer"], "{positives: 'gold answer'}"),
        (Task.sts, ["sentence_A", "sentence_B", "relatedness_score"],
         "{text1: sentence_A, text2: sentence_B, score: relatedness_score}"),
        (Task.sts, ["sentence1", "sentence2", "label", "idx"], "{text1: sentence1, text2: sentence2, score: label}"),
        (Task.classification, ["sentence", "label"], "{text: sentence}"),
        (Task.classification, ["content", "category"], "{text: content, label: category}"),
        (Task.clustering, ["sentences", "labels"], "{text: sentences, label: labels}"),
        (Task.clustering, ["a", "b"], ""),
    ],
)  # fmt: skip
def test_the_line_for_missing_columns(task: Task, columns: list[str], line: str) -> None:
    options = DatasetOptions(task, "x")
    record = dict.fromkeys(columns, "x")
    assert suggestion(options, chosen(options, record), record) == line


@pytest.mark.parametrize(
    "name", ["negs", "hard negs", "it's", "null", "True", "1st", "a,b", "{x}", "a:b", "négatif", "n", '"', "#1", "$x"]
)
def test_a_quoted_name_is_read_back_by_yaml_and_by_hydra(name: str) -> None:
    (override,) = OverridesParser.create().parse_overrides([f"+columns={as_override({'negatives': name})}"])
    assert override.value() == {"negatives": name}
    if "'" not in name:
        assert yaml.safe_load(as_override({"negatives": name})) == {"negatives": name}
    assert quoted("\x1b[31m").isprintable()
    assert quoted("\ud800").isprintable()


def test_given_columns_count_in_the_choice_of_the_format() -> None:
    options = DatasetOptions(Task.sts, "x", columns={"score": "label"})
    assert chosen(options, ["sentence1", "sentence2", "label"]) == {
        "text1": "sentence1",
        "text2": "sentence2",
        "score": "label",
        "prompt": "prompt",
    }
    with pytest.raises(ConfigError, match="format=flag_embedding has no sts rows: use rows or sentence_transformers"):
        chosen(DatasetOptions(Task.sts, "x", format=Format.flag_embedding), [])
