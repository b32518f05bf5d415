"""report.html."""

import json
import re

import pytest

from lightning_embed.report import Run
from lightning_embed.report.figures.bars import panels
from lightning_embed.report.pages.run_page import headline
from lightning_embed.report.scores.summary import sections
from tests.report.conftest import record
from tests.report.test_landscape import landscape


@pytest.fixture
def page(models, tmp_path) -> str:
    run = Run(tmp_path)
    for name, found in models.items():
        run.add(name, found)
    none, ties = record("none", ranks=[3.5, 2.5]), {**record("ties"), "geometry": None}
    for merge, found in {"soup-1f3a9c": record("soup"), "ties-2b": ties, "none-3c": none}.items():
        folder = tmp_path / "merged" / merge
        folder.mkdir(parents=True)
        (folder / "merge.json").write_text(json.dumps(found))
    return run.write_html({"seed": 42, "query_prompt": "<b>$x</b>"}).read_text()


def test_it_holds_every_model_and_mean(page, models):
    for text in (*(set(models) - {"soup-1f3a9c"}), "<td>soup</td>", "62.50", "61.50", "68.00"):
        assert text in page


def test_long_names_leave_room_for_the_bars(models):
    renamed = {f"{model} {'weights=[1.236859,1.332055] ' * 2}": found for model, found in models.items()}
    narrow, wide = (float(re.search(r'width="([\d.]+)pt"', panels(sections(m)[0])[0])[1]) for m in (models, renamed))
    assert wide > narrow + 150


def test_a_source_that_is_called_as_a_strategy_keeps_its_row(models, tmp_path):
    run = Run(tmp_path)
    for name, found in (*models.items(), ("soup", models["retrieval"])):
        run.add(name, found)
    folder = tmp_path / "merged" / "soup-1f3a9c"
    folder.mkdir(parents=True)
    (folder / "merge.json").write_text(json.dumps(record("soup")))
    page = run.write_html({}).read_text()
    for row in ("<td>soup</td>", "<td>soup-1f3a9c</td>", "Merge soup-1f3a9c<"):
        assert row in page


def test_it_requests_nothing(page):
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#)|url\((?!#)|@import|<script|<link""", page)


def test_it_shows_bars_above_the_base_with_axes_named(page):
    figures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(figures) == 1 + 2 + 3 + 2 + 3 + 5  # scatter, columns of the four blocks, pictures of the geometry
    assert "retrieval nDCG@10" in figures[3]
    assert "points above base (50.00)" in figures[3]
    assert "+13.00" in figures[3]


def test_it_shows_plans_and_config(page):
    for text in (
        "weighting",
        "seed: 42",
        "&lt;b&gt;$x&lt;/b&gt;",
        "Merge soup<",
        "in merged/soup-1f3a9c.",
        "Merge ties<",
    ):
        assert text in page
    assert "Merge none" not in page


def test_merges_of_the_same_sources_share_one_geometry(page):
    assert page.count("Geometry: retrieval, sts") == 1
    for text in (
        "1.23",
        "0.07",
        "41%",
        "1.90 independent directions",
        "are &lt;b&gt;nearly&lt;/b&gt; orthogonal",
        "In &lt;b&gt; alone &#x27;retrieval&#x27; and &#x27;sts&#x27; point against each other",
        "3.5",
    ):
        assert text in page
    assert re.search("<tr><td>soup</td><td>1.50</td><td>1.50%</td><td>0.66</td><td>0.77</td></tr>", page)


def test_landscapes_stand_with_the_sources_that_they_are_of(models, tmp_path):
    folder = tmp_path / "merged" / "soup-1f3a9c"
    folder.mkdir(parents=True)
    (folder / "merge.json").write_text(json.dumps(record("soup")))
    (tmp_path / "landscapes").mkdir()
    others = {**landscape(), "sources": [], "findings": ["of other sources"]}
    for name, found in (("1", landscape()), ("2", others)):
        (tmp_path / "landscapes" / f"{name}.json").write_text(json.dumps(found))
    page = Run(tmp_path).write_html({}).read_text()
    assert "<li>Between &lt;a&gt; and b</li>" in page
    assert "of other sources" not in page
    assert "loss (retrieval)" in page


def test_the_headline_is_chosen_on_dev_and_read_on_test(models):
    assert headline(models) == (
        "<b>retrieval</b> is best on dev: 61.00 points, mean of tasks. "
        "On test in domain it scores 61.50, +1.50 from the base's 60.00. "
        "On test out of domain it scores 70.00, -10.00 from the base's 80.00."
    )


def test_the_headline_says_what_is_noise(models):
    """The same lead on every query is none; one query in two against the other is."""
    for name, each in {"base": [0.5, 0.5] * 20, "retrieval": [0.6, 0.6] * 20}.items():
        models[name]["test"]["sts13"] |= {"task": "retrieval", "each": each, "score": 100 * sum(each) / 40}
    assert (
        "+10.00 from the base's 50.00 (95 % interval +10.00 to +10.00: outside the noise of the queries)"
        in headline(models)
    )
    models["retrieval"]["test"]["sts13"] |= {"each": [1.0, 0.1] * 20, "score": 55.0}
    assert "+5.00 from the base's 50.00" in headline(models)
    assert "inside the noise of the queries" in headline(models)


def test_without_a_test_the_headline_says_how_sure_dev_is(models):
    for name, found in models.items():
        del found["test"]
        each = [0.5, 0.9] * 5 if name == "retrieval" else [0.6, 0.7] * 5
        found["dev"] = {
            "faq": {
                "task": "retrieval",
                "metric": "ndcg_at_10",
                "score": 10 * sum(each),
                "in_domain": True,
                "each": each,
            }
        }
    assert re.search(
        r"On dev it scores 70.00, \+5.00 from the base's 65.00 \(95 % interval .*: inside the noise of the queries\)",
        headline(models),
    )


def test_without_dev_the_headline_chooses_nothing(models):
    for found in models.values():
        del found["dev"]
    assert headline(models) == "No dev scores: nothing here chooses a model."
    assert headline({}) == "Nothing was measured."


def test_without_a_base_scores_are_shown_as_they_are(models, tmp_path):
    Run(tmp_path).add("soup", models["base"])
    page = Run(tmp_path).write_html({}).read_text()
    assert "above base" not in page
    assert "from the base" not in page
