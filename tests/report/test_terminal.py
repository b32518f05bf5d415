"""The tables on the terminal, and the one at the end of a sweep."""

import io

import pytest
from rich.console import Console

from lightning_embed.report.terminal import print_results


def shown(models, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_results(models, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_every_model_and_score_is_shown_at_any_width(models, width):
    many = {f"{name}{i}": found for i in range(3) for name, found in models.items()}
    text = shown(many, width)
    assert max(map(len, text.splitlines())) <= width
    for name in many:
        assert name in text
    assert "…" not in text
    assert text.count("62.50") == 3  # the base's mean over all tests


def test_the_best_of_each_column_is_marked_without_colour(models):
    lines = shown(models, 100).splitlines()
    inside = lines[next(i for i, line in enumerate(lines) if "test in domain" in line) :]
    rows = {line.split()[0]: line.split()[1:] for line in inside[1:4]}
    assert rows["retrieval"] == ["63.00*", "60.00", "61.50"]
    assert rows["soup-1f3a9c"] == ["61.00", "75.00*", "68.00*"]


def test_equal_to_two_digits_is_equally_good(models):
    lines = [line.split() for line in shown(models, 100).splitlines() if "sts13" in line]
    assert lines == [["sts13", "Spearman", "80.00*", "70.00", "80.00*"]]


def test_nothing_measured_says_so():
    assert shown({}, 80) == "Nothing was measured.\n"


def test_a_mean_apart_from_the_base_by_more_than_noise_is_marked(models):
    for found in models.values():
        for tests in found.values():
            for score in tests.values():
                score["each"] = [(score["score"] + (i % 3 - 1)) / 100 for i in range(60)]
    text = shown(models, 100)
    inside = [line.split() for line in text[text.index("test in domain") :].splitlines()[1:4]]
    assert ["".join(row[3:]) for row in inside] == ["60.00", "61.50+", "68.00*+"]
    outside = [line.split() for line in text[text.index("test out of domain") :].splitlines()[1:4]]
    assert [row[-1] for row in outside] == ["80.00*", "-", "80.00*-"], "what is certain may be small"
    assert "+ above, - below the base by more than the noise of queries (95 %)" in " ".join(text.split())
