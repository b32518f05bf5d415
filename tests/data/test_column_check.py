"""Columns that are not read: named, or refused with two ways out that work."""

import re
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lightning_embed.data import DatasetOptions, load_datasets
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.types import Task

PAIR = {"query": "q", "positives": ["p"]}
PEER = {"anchor": "q", "positive": "p"}
SCORED = [{"text1": "a", "text2": "b", "score": 0}, {"text1": "a", "text2": "c", "score": 1}]
LABELLED = [{"text": "a", "label": 0}, {"text": "b", "label": 0}]


def _load(write, tmp_path: Path, records: list[dict], task: Task = Task.retrieval, **options):
    file = write("rows.jsonl", records)
    given = DatasetOptions(task, str(file), dev_share=0.0, **options)
    return load_datasets({"faq": given}, cache=tmp_path / "cache")["faq"]


REFUSED = {
    "pos with negs": (Task.retrieval, [{"query": "q", "pos": ["p"], "negs": ["n"]}]),
    "positives with negative": (Task.retrieval, [{**PAIR, "negative": ["n"]}]),
    "positives with neg": (Task.retrieval, [{**PAIR, "neg": ["n"]}]),
    "positive with hard_negative": (Task.retrieval, [{**PEER, "hard_negative": "n"}]),
    "positive with negatives": (Task.retrieval, [{**PEER, "negatives": ["n"]}]),
    "numbers": (Task.retrieval, [{**PAIR, "neg_1": "n", "neg_2": "m"}]),
    "another case": (Task.retrieval, [{**PAIR, "Negatives": ["n"]}]),
    "a space": (Task.retrieval, [{**PAIR, "hard negatives": ["n"]}]),
    "a typing mistake": (Task.retrieval, [{**PAIR, "negaitves": ["n"]}]),
    "a row in mid-file": (Task.retrieval, [PAIR] * 499 + [{**PAIR, "negs": ["n"]}]),
    "two formats in one file": (Task.retrieval, [{**PAIR, "negatives": ["n"]}, {**PAIR, "neg": ["n"]}]),
    "scores": (Task.retrieval, [{**PAIR, "scores": [1]}]),
    "a label": (Task.retrieval, [{**PEER, "label": 0}]),
    "a second answer": (Task.retrieval, [{**PAIR, "answers": ["r"]}]),
    "labels of scores": (Task.sts, [{**row, "labels": 1} for row in SCORED]),
    "a similarity": (Task.sts, [{**row, "similarity": 1} for row in SCORED]),
    "a third text": (Task.sts, [{**row, "sentence_2": "x"} for row in SCORED]),
    "labels": (Task.classification, [{**row, "labels": 1} for row in LABELLED]),
    "texts": (Task.clustering, [{**row, "texts": "b"} for row in LABELLED]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_both_ways_out_work(write, tmp_path: Path, name: str) -> None:
    task, records = REFUSED[name]
    for _ in range(2):  # the second time from the cache
        with pytest.raises(ConfigError) as caught:
            _load(write, tmp_path, records, task)
    message = str(caught.value)
    assert "\n" not in message
    assert re.match(
        r"faq: the train rows, from row \d+ on, have columns that are not read and resemble ours: ", message
    )
    columns, ignored = (o.value() for o in OverridesParser.create().parse_overrides(re.findall(r'"(.+?)"', message)))
    plain = _load(write, tmp_path, records, task, ignore_columns=ignored)
    assert plain.notes == []
    if "in place of" in message:  # the column that was read is the unused one now, or rows lack the other
        with pytest.raises((ConfigError, DataError)):
            _load(write, tmp_path, records, task, columns=columns)
    elif name not in ("scores", "a label"):  # reading these asks for more than a name: one score for each text
        assert _load(write, tmp_path, records, task, columns=columns).train is not None


def test_the_row_where_it_begins_is_named(write, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="from row 500 on"):
        _load(write, tmp_path, REFUSED["a row in mid-file"][1])


@pytest.mark.parametrize(
    "name",
    ["id", "title", "source", "split", "idx", "lang", "metadata", "url", "year", "dataset", "pos_id", "type", "问"],
)
def test_harmless_columns_are_named(write, tmp_path: Path, name: str) -> None:
    for _ in range(2):  # the second time from the cache
        assert _load(write, tmp_path, [{**PAIR, name: 3}]).notes == [f"faq: columns that are not read: {name!r}."]


@pytest.mark.parametrize(
    "record",
    [
        {**PAIR, "negatives": []},
        {**PEER, "negative": "n"},
        {**PEER, "negative_1": "n", "negative_2": "m"},
        {"query": "q", "pos": ["p"], "neg": ["n"], "pos_scores": [1], "neg_scores": [0]},
        {**PAIR, "negs": None},
        {**PAIR, "negs": []},
        {**PAIR, "negs": ""},
    ],
)
def test_what_is_read_or_empty_is_not_named(write, tmp_path: Path, record: dict) -> None:
    assert _load(write, tmp_path, [record]).notes == []


@pytest.mark.parametrize("name", ["instruction", "Prompt", "instructions"])
def test_a_prompt_of_another_name_is_a_note_whose_remedy_works(write, tmp_path: Path, name: str) -> None:
    record = {"query": "q", "pos": ["p"], "neg": ["n"], "type": "normal", name: "x"}
    notes = _load(write, tmp_path, [record]).notes
    assert set(re.findall(r"'(\w+)'", notes[0])) == {name, "type"}
    assert f"a prompt of each row ({name!r}) is not used" in notes[1]
    (columns,) = (o.value() for o in OverridesParser.create().parse_overrides(re.findall(r'"(.+?)"', notes[1])))
    loaded = _load(write, tmp_path, [record], columns=columns)
    assert loaded.train.table["prompt"][:] == ["x"]
    assert loaded.notes == ["faq: columns that are not read: 'type'."]
    assert _load(write, tmp_path, [record], ignore_columns=[name]).notes == loaded.notes


def test_a_prompt_that_is_read_is_no_note(write, tmp_path: Path) -> None:
    record = {"query": "q", "pos": ["p"], "neg": ["n"], "prompt": "x", "instruction": "y"}
    assert _load(write, tmp_path, [record]).notes == ["faq: columns that are not read: 'instruction'."]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": {"negatives": "negz"}}, "columns: no row has the column 'negz' .negatives.. Did you mean 'negs'"),
        ({"columns": {"prompt": "instr"}}, "columns: no row has the column 'instr' .prompt.. The rows have"),
        ({"columns": {"negatives": "empty"}}, "columns: no row has a value in the column 'empty'"),
        ({"ignore_columns": ["neg"]}, "ignore_columns: no row has the column 'neg'. Did you mean 'negs'"),
    ],
)
def test_options_that_name_a_column_of_no_row(write, tmp_path: Path, options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=f"faq: {message}"):
        _load(write, tmp_path, [{**PAIR, "negs": ["n"], "empty": None}], **options)


def test_columns_may_be_in_one_of_several_files(write, tmp_path: Path) -> None:
    write("d/train.jsonl", [{**PAIR, "negs": ["n"]}])
    write("d/dev.jsonl", [PAIR])
    options = DatasetOptions(Task.retrieval, str(tmp_path / "d"), columns={"negatives": "negs"})
    data = load_datasets({"faq": options}, cache=tmp_path / "cache")["faq"]
    assert data.train.table["negatives"][:] == [["n"]]
    write("d/train.jsonl", [PAIR])
    write("d/dev.jsonl", [{**PAIR, "negs": ["n"]}])
    with pytest.raises(ConfigError, match="faq: the dev rows, from row 1 on"):
        load_datasets({"faq": DatasetOptions(Task.retrieval, str(tmp_path / "d"))}, cache=tmp_path / "cache")
