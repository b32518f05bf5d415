"""Names of columns that resemble ours, and names that do not."""

import pytest

from lightning_embed.data.column_words import resembled
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
