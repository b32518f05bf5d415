"""Tables of the data: scripts of texts, and train rows that stand in a test."""

import pytest

from lightning_embed.data import DatasetOptions
from lightning_embed.data.dataset import EmbeddingDataset
from lightning_embed.data.decontamination import Overlap
from lightning_embed.run.data_tables import print_overlaps, scripts
from lightning_embed.types import Task


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a text", "Café"], "Latin"),
        (["кошка"], "Cyrillic"),
        (["猫が好き"], "Han 50%, Hiragana 50%"),
        (["abc", "где"], "Latin 50%, Cyrillic 50%"),
        (["a" * 999 + "ж"], "Latin"),
        (["한국어"], "Hangul"),
        (["हिन्दी"], "Devanagari"),
        (["123", "?!"], "-"),
        ([""], "-"),
    ],
)
def test_scripts(texts: list[str], expected: str) -> None:
    assert scripts(texts) == expected


def test_overlaps(capsys: pytest.CaptureFixture[str]) -> None:
    options = DatasetOptions(Task.retrieval, "x")
    found = Overlap("b", "test", 400, 10, 7, 9, ["[red] cat\nand dog", "A " + "word " * 40])
    data = {
        "a": EmbeddingDataset("a", options, None, None, [], overlaps=[found]),
        "b": EmbeddingDataset("b", options, None, None, []),
    }
    print_overlaps(data)
    shown = " ".join(capsys.readouterr().out.split())
    assert "b test 10 2.50% 7 9" in shown
    assert "[red] cat" in shown
    print_overlaps({"b": data["b"]})
    assert "No train row has" in capsys.readouterr().out
