"""What a run prints of rows that teach nothing, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.errors import LightningEmbedError
from lightning_embed.run import check_signal
from lightning_embed.run.check_signal import has_dropout
from lightning_embed.run.learning_signal import Signal, measure
from lightning_embed.run.prepare import prepare
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

FACTS = "data.datasets.facts"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def no_dropout(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny encoder without dropout."""
    from transformers import AutoModel, AutoTokenizer

    folder = tmp_path_factory.mktemp("models") / "calm"
    config = AutoConfig.from_pretrained(tiny_model, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    AutoModel.from_pretrained(tiny_model, config=config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def _printed(
    model: Path, toy: Path, folder: Path, rows: list[dict], capsys: pytest.CaptureFixture[str], *more: str
) -> str:
    """What is printed while a run with these train rows is prepared, or its refusal."""
    file = folder / "train.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = [f"{FACTS}.path={file}", f"{FACTS}.dev_share=0", "evaluation=none", "merge=none", *more]
    try:
        prepare(_cfg("train", [*_overrides(model, toy, folder / "run"), *given]))
    except LightningEmbedError as error:
        return f"{type(error).__name__}: {error}"
    return " ".join(capsys.readouterr().out.split())


def _simcse(share: float) -> list[dict]:
    return [{"query": f"cat {n}", "positives": [f"cat {n}" if n < 64 * share else f"dog {n}"]} for n in range(64)]


@pytest.mark.parametrize(
    ("share", "prompts", "dropout", "expected"),
    [
        (1.0, False, True, "facts: in all its rows the query is its own positive (SimCSE): it is encoded twice, with independent dropout."),
        (0.25, False, True, "facts: in 25% of its rows the query is its own positive (SimCSE): it is encoded twice, with independent dropout."),
        (0.0, False, True, ""),
        (1.0, True, True, ""),
        (1.0, False, False, "ConfigError: facts: in all its rows the query is its own positive (SimCSE), and {model} has no dropout, so that both "
         "encodings are equal. Expected a model with dropout (hidden_dropout_prob in its config.json, or encoder.lora_dropout), or other positives."),
        (0.25, False, False, "facts: in 25% of its rows the query is its own positive (SimCSE), and {model} has no dropout,"),
        (0.0, False, False, ""),
        (1.0, True, False, ""),
    ],
)  # fmt: skip
def test_simcse(
    share: float, prompts: bool, dropout: bool, expected: str, tiny_model: Path, no_dropout: Path, toy: Path,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    model = tiny_model if dropout else no_dropout
    given = [f"{FACTS}.query_prompt='query: '", f"{FACTS}.document_prompt='passage: '"] if prompts else []
    found = _printed(model, toy, tmp_path, _simcse(share), capsys, *given)
    text = expected.format(model=model)
    assert text.replace(" ", "") in found.replace(" ", "") if text else found == ""


@pytest.mark.parametrize(
    ("rows", "more", "expected"),
    [
        ([{"query": f"q {n}", "positives": [f"p {n}"], "negatives": ["n"][: n % 2]} for n in range(64)], ["retrieval_loss.in_batch=false"],
         "facts: 50% of its rows (32 of 64 tried) teach nothing: they have no negatives, and the loss compares a row only with its own. Add negatives"),
        ([{"query": f"q {n}", "positives": [f"p {n}"], "negatives": [f"{'n' if n % 4 else 'q'} {n}"]} for n in range(64)], ["retrieval_loss.in_batch=false"],
         "facts: 25% of its rows (16 of 64 tried) teach nothing: their negatives are equal to their query or their positives. Give other negatives"),
        ([{"query": f"q {n}", "positives": [f"p {n}"]} for n in range(64)], ["retrieval_loss.cross_device=false"], ""),
        ([{"query": f"q {n}", "positives": ["p"], "negatives": [f"n {n}"]} for n in range(64)], [], ""),
        ([{"query": f"q {n // 2}", "positives": [f"p {n}"]} for n in range(64)], [], ""),
        ([{"query": "q", "positives": [f"p {n}"]} for n in range(64)], [], "DataError: facts: all its queries are equal"),
        ([{"query": "q", "positives": [f"p {n}"]} for n in range(64)], ["teacher=base", "loss@retrieval_loss=distill_embeddings"],
         "DataError: facts: all its queries are equal"),
        ([{"query": f"q {n // 64}", "positives": [f"q {n // 64}", f"p {n}"]} for n in range(64)],
         ["teacher=base", "loss@retrieval_loss=distill_embeddings", "retrieval_loss.loss_weight=0"], ""),
        ([{"query": "q", "positives": [f"p {n}"], "negatives": [f"n {n}"]} for n in range(64)], ["retrieval_loss.in_batch=false"], ""),
        ([{"query": "q", "positives": [f"p {n}"], "negatives": [f"n {n}"]} for n in range(64)], ["loss@retrieval_loss=multi_positive"], ""),
        ([{"query": f"q {n}", "positives": [f"p {n}"]} for n in range(1)], [], "DataError: facts: expected at least 2 train rows"),
        ([{"text": f"t {n}", "label": str(n)} for n in range(64)], [f"{FACTS}.task=classification"],
         "DataError: facts: each label of its 64 train rows occurs once"),
        ([{"text": f"t {n}", "label": "a"} for n in range(64)], [f"{FACTS}.task=clustering"],
         "ConfigError: facts: its 64 train rows have one label, and its loss learns from texts of other labels."),
        ([{"text": "t", "label": str(n % 2)} for n in range(64)], [f"{FACTS}.task=clustering"],
         "DataError: facts: none of its rows teaches anything: the texts of other labels are equal to theirs"),
        ([{"text1": f"a {n}", "text2": f"b {n}", "score": float(not n)} for n in range(64)], [f"{FACTS}.task=sts"],
         "facts: 88% of its rows (56 of 64 tried) teach nothing: in batches of 8 rows, all scores that the loss compares are equal. Raise batch_size,"),
        ([{"text1": f"a {n}", "text2": f"{'ab'[n % 2]} {n}", "score": n / 64} for n in range(64)], [f"{FACTS}.task=sts"],
         "facts: 50% of its rows (32 of 64 tried) teach nothing: text1 and text2 are one text, whose cosine is always 1. Remove them;"),
        ([{"text1": f"a {n}", "text2": f"b {n}", "score": n / 100} for n in range(64)], [f"{FACTS}.task=sts", "loss@sts_loss=infonce"],
         "DataError: facts: none of its rows teaches anything: too few pairs have a score of min_score=1 or more. Lower sts_loss.min_score."),
    ],
)  # fmt: skip
def test_rows_that_teach_nothing(
    rows: list[dict], more: list[str], expected: str, tiny_model: Path, toy: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    found = _printed(tiny_model, toy, tmp_path, rows, capsys, *more)
    assert found.startswith(expected) if expected else found == "", found


def test_dropout_is_found(tiny_model: Path, no_dropout: Path) -> None:
    assert has_dropout(Encoder(EncoderOptions(str(tiny_model))).eval())
    assert not has_dropout(Encoder(EncoderOptions(str(no_dropout))))


def test_of_many_datasets_fewer_rows_each(
    tiny_model: Path, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks silent in a few rows is refused only after a longer look."""
    looks = []

    def counted(*arguments: Any) -> Signal:
        looks.append(measure(*arguments))
        return looks[-1]

    monkeypatch.setattr(check_signal, "measure", counted)
    monkeypatch.setattr(check_signal, "_IN_ALL", 16)
    rows = [{"query": f"cat {n}", "positives": [f"dog {n}"]} for n in range(40)]
    assert _printed(tiny_model, toy, tmp_path, rows, capsys) == ""
    assert [each.rows for each in looks] == [8, 8]
    equal = [{"query": "cat", "positives": ["cat"]} for _ in range(40)]
    assert "all its queries are equal" in _printed(tiny_model, toy, tmp_path, equal, capsys)
    assert [each.rows for each in looks[2:]] == [8, 40]
