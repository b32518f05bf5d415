"""Names of columns that resemble ours, names that do not, and the line that reads them."""

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from lightning_embed.data import DatasetOptions
from lightning_embed.data.column_names import as_override, chosen, quoted, resembled, suggestion
from lightning_embed.data.options import Format
from lightning_embed.errors import ConfigError
from lightning_embed.types import Task

NEAR = {
    Task.retrieval: {
        "query": "Query queries querry qurey QUERY question questions search_query query_text anchor",
        "positives": "positive Positives pos positve postives possitives answer answers document documents passage "
        "pos_passages positive_ctxs doc_text gold_answer relevant candidates response",
        "negatives": "negative negs neg Negatives hard_negative hard_negatives hardNegatives Hard-Negatives hardnegatives "
        "negaitves negatves neg_1 neg_12 negative_passages hard_negative_ctxs bm25_negatives negatives_bge mined_negs",
        "positive_scores": "score scores label labels similarity pos_score teacher_scores relevance positive_score scroe",
        "negative_scores": "neg_score neg_scores negative_score hard_negative_scores",
    },
    Task.sts: {
        "text1": "text sentence sentence_1 Sentence1 sentence_A texts text_a",
        "text2": "sentence_2 sentence2 sentence_B text_b",
        "score": "scores label labels similarity similarity_score relatedness_score gold rating scroe",
    },
    Task.classification: {"text": "texts sentence sentences Text text2", "label": "labels Label lable class classes"},
    Task.clustering: {"text": "texts sentences", "label": "labels Label"},
}
FAR = {
    Task.retrieval: "id _id idx query_id question_id pos_id neg_id title url source type prompt lang language split year "
    "dataset metadata num_negatives pos_tags answer_start is_positive position negation narrative native context author "
    "category text abstract count 问题 ключ é 42 _ null",
    Task.sts: "id sid pair_id genre year split source dataset lang entailment_label raw_score sentence1_id test store core",
    Task.classification: "id label_text label_fine coarse_label label_name text_label lang title category content test "
    "txt next level",
    Task.clustering: "id label_text lang title split",
}


@pytest.mark.parametrize(
    ("task", "field", "name"), [(t, f, n) for t, of in NEAR.items() for f, names in of.items() for n in names.split()]
)
def test_a_name_that_resembles_a_column(task: Task, field: str, name: str) -> None:
    assert resembled(name, task) == field


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, names in FAR.items() for name in names.split()])
def test_a_name_that_resembles_none(task: Task, name: str) -> None:
    assert resembled(name, task) is None


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
    }
    with pytest.raises(ConfigError, match="format=flag_embedding has no sts rows: use rows or sentence_transformers"):
        chosen(DatasetOptions(Task.sts, "x", format=Format.flag_embedding), [])
