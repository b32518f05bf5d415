"""Mined negatives: true to the margins, never a positive, in a file that is rows."""

import random
from pathlib import Path

import pytest
import torch
from sentence_transformers import CrossEncoder

from lightning_embed.data import DatasetOptions
from lightning_embed.data.mining import mine, read_mined, score
from lightning_embed.data.mining_options import MiningOptions, SamplingStrategy, Teacher
from lightning_embed.data.options import Format
from lightning_embed.data.readers import read_rows
from lightning_embed.data.row_groups import Rows
from lightning_embed.encoder import Encoder, EncoderOptions, load
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.types import Task
from tests.toy import COLOURS, NOUNS, VERBS

OPTIONS = DatasetOptions(Task.retrieval, path="x")


@pytest.fixture
def rows(write, tmp_path: Path) -> Rows:
    draw = random.Random(3)
    texts = [f"the {c} {n} {v}" for c in COLOURS for n in NOUNS for v in VERBS]
    draw.shuffle(texts)
    records = [
        {"query": texts[i], "positives": texts[i + 20 : i + 22], "negatives": [texts[i + 45]]} for i in range(20)
    ]
    records[4] |= {"negative_scores": [0.5]}
    records[7]["query"] = records[8]["query"]  # one query in two rows: the positives of both are none's negatives
    return Rows("toy", OPTIONS, read_rows(write("toy.jsonl", records), OPTIONS, tmp_path / "cache"))


@pytest.fixture(scope="module")
def scorer(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers directory that has prompts of its own."""
    folder = tmp_path_factory.mktemp("scorer")
    Encoder(EncoderOptions(str(tiny_model), prompts={"query": "old ", "document": "big "})).save(folder)
    return folder


def _scores(encoder, record: dict, prompts: tuple[str, str], texts: list[str]) -> torch.Tensor:
    return encoder.encode(texts, prompt=prompts[1]) @ encoder.encode(record["query"], prompt=prompts[0])


@pytest.mark.parametrize("prompts", [("red ", "blue "), ("", "")])
@pytest.mark.parametrize("strategy", ["top", "random"])
def test_negatives_keep_the_margin_and_are_no_positives(
    rows: Rows, scorer: Path, tmp_path: Path, prompts: tuple[str, str], strategy: str
) -> None:
    options = MiningOptions(
        ["toy"], 3, relative_margin=0.001, max_score=0.99, sampling_strategy=SamplingStrategy(strategy)
    )
    put_before = {"query_prompt": prompts[0], "document_prompt": prompts[1]}
    file = mine(rows, scorer, options, tmp_path / "mined/toy.jsonl", **put_before, seed=1)
    assert [f.name for f in file.parent.iterdir()] == ["toy.jsonl"]
    again = mine(rows, scorer, options, tmp_path / "again.jsonl", **put_before, seed=1)
    assert again.read_bytes() == file.read_bytes()
    mined = read_rows(file, OPTIONS, tmp_path / "cache").to_list()
    positives = {r["query"]: set() for r in rows.table}
    for record in rows.table:
        positives[record["query"]] |= set(record["positives"])
    added, encoder = 0, load(scorer)
    for before, after in zip(rows.table, mined, strict=True):
        assert (after["query"], after["positives"]) == (before["query"], before["positives"])
        assert after["negatives"][:1] == before["negatives"]
        new = after["negatives"][1:]
        assert len(set(after["negatives"])) == len(after["negatives"]) <= 1 + 3
        assert not set(new) & positives[before["query"]]
        worst = _scores(encoder, before, prompts, sorted(positives[before["query"]])).min()
        scores = _scores(encoder, before, prompts, new)
        assert (scores <= worst - abs(worst) * 0.001 + 1e-5).all()
        assert (scores <= 0.99 + 1e-5).all()
        added += len(new)
    assert added > 20


def test_scores_of_a_teacher_stay_beside_their_texts(rows: Rows, scorer: Path, tmp_path: Path) -> None:
    mined = read_mined(rows, mine(rows, scorer, MiningOptions(["toy"]), tmp_path / "mined.jsonl"), tmp_path / "cache")
    record = mined.table[4]
    assert record["negative_scores"] == [0.5, *[None] * (len(record["negatives"]) - 1)]
    assert len(record["negatives"]) > 1
    assert mined.table[5]["negative_scores"] is None


def test_mined_rows_are_read_whatever_the_format_of_the_dataset(write, scorer: Path, tmp_path: Path) -> None:
    records = [{"question": f"{n} eats", "answer": f"the {n}"} for n in NOUNS]
    options = DatasetOptions(
        Task.retrieval,
        path="x",
        format=Format.sentence_transformers,
        columns={"query": "question", "positives": "answer"},
    )
    rows = Rows("qa", options, read_rows(write("qa.jsonl", records), options, tmp_path / "cache"))
    mined = read_mined(
        rows, mine(rows, scorer, MiningOptions(["qa"], num_negatives=2), tmp_path / "m.jsonl"), tmp_path / "cache"
    )
    assert mined.options == options
    assert [len(r["negatives"]) for r in mined.table] == [2] * len(NOUNS)
    assert mined.table["query"][:] == rows.table["query"][:]


def test_own_prompts_and_lengths_of_the_dataset(write, scorer: Path, tmp_path: Path) -> None:
    """One query under two prompts is mined twice, by the embeddings behind each prompt, of texts that are cut."""
    texts = [f"the {c} {n} {v}" for c in COLOURS[:3] for n in NOUNS[:3] for v in VERBS[:2]]
    prompts = ["old house ", "", None]
    records = [{"query": texts[0], "positives": [texts[1]]} | ({} if p is None else {"prompt": p}) for p in prompts]
    records += [{"query": text, "positives": [text.replace("the", "a")], "prompt": "big "} for text in texts[2:]]
    options = DatasetOptions(Task.retrieval, path="x", query_max_length=5, document_max_length=4)
    rows = Rows("toy", options, read_rows(write("toy.jsonl", records), options, tmp_path / "cache"))
    file = mine(
        rows, scorer, MiningOptions(["toy"], 2), tmp_path / "mined.jsonl", query_prompt="red ", document_prompt=""
    )
    mined, encoder = read_mined(rows, file, tmp_path / "cache").table.to_list(), load(scorer)
    assert [row["prompt"] for row in mined] == [*prompts, *["big "] * 16]
    corpus = sorted({text for row in records for text in row["positives"]} - {texts[1]})
    documents = encoder.encode(corpus, prompt="", max_length=4)
    for row, prompt in zip(mined[:3], ["old house ", "", "red "], strict=True):
        scores = documents @ encoder.encode(texts[0], prompt=prompt, max_length=5)
        worst = min(float(scores[corpus.index(text)]) for text in row["negatives"])
        assert len(row["negatives"]) == 2
        assert sum(scores > worst + 1e-5) < 2
    assert load(scorer).tokenizer.max_length == 64


@pytest.mark.parametrize(
    "limit", [{"max_score": 0.5}, {"relative_margin": 0.05}, {"absolute_margin": 0.1}, {"min_score": 0.4}]
)
def test_a_cross_encoder_leaves_out_by_its_scores(
    rows: Rows, scorer: Path, tiny_cross_encoder: Path, tmp_path: Path, limit: dict[str, float]
) -> None:
    """In its own scale; without it, the negatives are others."""
    given = {"cross_encoder": str(tiny_cross_encoder), **limit}
    file = mine(rows, scorer, MiningOptions(["toy"], 3, range_max=30, **given), tmp_path / "mined.jsonl", device="cpu")
    model, removed = CrossEncoder(str(tiny_cross_encoder), device="cpu"), 0
    positives: dict[str, set[str]] = {}
    for record in rows.table:
        positives.setdefault(record["query"], set()).update(record["positives"])
    for before, after in zip(rows.table, read_mined(rows, file, tmp_path / "cache").table, strict=True):
        query, new = before["query"], after["negatives"][len(before["negatives"]) :]
        scores = model.predict([(query, text) for text in new]) if new else []
        worst = model.predict([(query, text) for text in sorted(positives[query])]).min()
        bounds = {
            "max_score": lambda score: score <= 0.5,
            "min_score": lambda score: score >= 0.4,
            "relative_margin": lambda score, worst=worst: score <= worst - abs(worst) * 0.05,
            "absolute_margin": lambda score, worst=worst: score <= worst - 0.1,
        }
        assert all(bounds[name](score) for name in limit for score in scores)
        removed += 3 - len(new)
    plain = mine(rows, scorer, MiningOptions(["toy"], 3), tmp_path / "plain.jsonl", device="cpu")
    assert plain.read_bytes() != file.read_bytes()


@pytest.mark.parametrize("teacher", ["cross_encoder", "model"])
def test_scores_are_written_into_rows(
    rows: Rows, scorer: Path, tiny_cross_encoder: Path, tmp_path: Path, teacher: str
) -> None:
    options = MiningOptions(
        ["toy"], 3, model=str(scorer), cross_encoder=str(tiny_cross_encoder), max_score=2.0, scores=Teacher(teacher)
    )
    mined = read_mined(rows, mine(rows, scorer, options, tmp_path / "m.jsonl", device="cpu"), tmp_path / "cache")
    both = [score(mined, options, tmp_path / f"{n}.jsonl", device="cpu") for n in range(2)]
    assert both[0].read_bytes() == both[1].read_bytes()
    found = read_mined(mined, both[0], tmp_path / "cache")
    assert found.has_teacher
    model, cross = load(scorer), CrossEncoder(str(tiny_cross_encoder), device="cpu")
    for before, after in zip(mined.table, found.table, strict=True):
        texts = [*after["positives"], *after["negatives"]]
        assert texts == [*before["positives"], *before["negatives"]]
        expected = (
            model.encode(texts, prompt="big ") @ model.encode(after["query"], prompt="old ")
            if teacher == "model"
            else torch.tensor(cross.predict([(after["query"], t) for t in texts])).logit()
        )
        given = torch.tensor([*after["positive_scores"], *after["negative_scores"]])
        torch.testing.assert_close(given, expected.float(), atol=1e-4, rtol=1e-4)


def test_nothing_found(rows: Rows, scorer: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"toy: mining found no negative for any query among .* Widen"):
        mine(rows, scorer, MiningOptions(["toy"], relative_margin=1.5), tmp_path / "m.jsonl")
    assert not (tmp_path / "m.jsonl").exists()


def test_refusals(write, scorer: Path, tmp_path: Path) -> None:
    options = DatasetOptions(Task.sts, path="x")
    file = write("s.jsonl", [{"text1": "a", "text2": "b", "score": 1}])
    rows = Rows("pairs", options, read_rows(file, options, tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"mining\.datasets: expected retrieval datasets, got pairs, which is sts"):
        mine(rows, scorer, MiningOptions(["pairs"]), tmp_path / "m.jsonl")
    assert not (tmp_path / "m.jsonl").exists()
    for options, message in [
        ({"num_negatives": 0}, "mining.num_negatives: expected at least 1, got 0"),
        ({"range_min": -1}, "mining.range_min: expected at least 0"),
        ({"range_min": 5, "range_max": 9}, r"range_max: expected at least range_min \+ num_negatives = 10, got 9"),
    ]:
        with pytest.raises(ConfigError, match=message):
            MiningOptions(**options)


@pytest.mark.parametrize("own", ["{}", "{} ", "  {}", "The{}"])
def test_a_query_is_never_its_own_negative(write, scorer: Path, tmp_path: Path, own: str) -> None:
    """In symmetric data the query is a document of another row, and the most similar one."""
    texts = [f"the {c} {n} {v}" for c in COLOURS[:3] for n in NOUNS[:3] for v in VERBS[:2]]
    spelled = [own.format(text) if "The" not in own else text.replace("the", "The") for text in texts]
    records = [{"query": texts[i], "positives": [texts[(i + 7) % 18], spelled[(i + 8) % 18]]} for i in range(18)]
    rows = Rows("toy", OPTIONS, read_rows(write("toy.jsonl", records), OPTIONS, tmp_path / "cache"))
    file = mine(rows, scorer, MiningOptions(["toy"], 3), tmp_path / "mined.jsonl", seed=1)
    mined = read_mined(rows, file, tmp_path / "cache").table.to_list()
    assert all(" ".join(text.lower().split()) != row["query"] for row in mined for text in row["negatives"])
    assert sum(len(row["negatives"]) for row in mined) >= 18
