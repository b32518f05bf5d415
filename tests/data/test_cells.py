"""Cells of csv files into numbers and lists, where a column asks for them."""

import pytest

from lightning_embed.data.cells import BadCell, Cells, typed

COLUMNS = {"query": "q", "positives": "p", "negatives": "n", "positive_scores": "s", "score": "score"}


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("an answer", "an answer"),
        ('["one", "two"]', ["one", "two"]),
        (' ["one"] ', ["one"]),
        ("['one', 'two']", ["one", "two"]),  # as pandas writes a column of lists
        (str(["it's", 'a "b"', "c"]), ["it's", 'a "b"', "c"]),
        ("[]", []),
        ("[1]", "[1]"),  # a footnote
        ("[CLS] is a token", "[CLS] is a token"),
        ("[a] and [b]", "[a] and [b]"),
        ('["one", 2]', None),
        ("['one' 'two']", None),  # as numpy prints it: Python would join the two
        ("['one'\n 'two']", None),
        ("['one', two']", None),
        ("3", "3"),
        ("null", "null"),
        ('"quoted"', '"quoted"'),
    ],
)
def test_texts(cell: str, expected: object) -> None:
    record = Cells(q=cell, p=cell)
    if expected is None:
        with pytest.raises(BadCell, match="'p' looks like a list of texts and is not JSON"):
            typed(record, COLUMNS)
    else:
        assert typed(record, COLUMNS) == {"q": cell, "p": expected}, "a query is always one text"


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("3", 3.0), ("-0.5", -0.5), (" 4.25 ", 4.25), (".5", 0.5), ("1e-3", 0.001), ("+2.", 2.0),
        ("[0.5, 1]", [0.5, 1]), ("[null, 1]", [None, 1]), ("[]", []),
        ("3,5", "3,5"), ("1_000", "1_000"), ("nan", "nan"), ("inf", "inf"), ("", ""), ("high", "high"),
        ("[true]", "[true]"), ("٣", "٣"), ("0x10", "0x10"),
    ],
)  # fmt: skip
def test_numbers(cell: str, expected: object) -> None:
    """What is no number stays a text, which the row refuses."""
    assert typed(Cells(s=cell, score=cell), COLUMNS) == {"s": expected, "score": expected}


def test_missing_cells_stay_missing() -> None:
    assert typed(Cells(p=None, score=None), COLUMNS) == {"p": None, "score": None}
