"""In domain against out of domain, and names that do not meet."""

import pytest

from lightning_embed.report.figures.label_placement import best_place
from lightning_embed.report.figures.scatter import scatter
from lightning_embed.report.figures.style import as_svg, save
from lightning_embed.report.scores.model_kinds import Kind, kind_of, labels
from tests.report.conftest import record

KINDS = {"base": Kind.base, "retrieval": Kind.source, "soup-1f3a9c": Kind.merge}


def test_every_model_is_a_named_point(models, tmp_path):
    figure = scatter(models, KINDS, {"soup-1f3a9c": "soup"})
    picture = as_svg(figure)
    for text in ("base", "retrieval", "soup", "test in domain", "test out of domain"):
        assert f">{text}" in picture
    assert "soup-1f3a9c" not in picture
    assert "ensemble" not in picture
    drawn = sorted(tuple(point) for marks in figure.axes[0].collections for point in marks.get_offsets().tolist())
    assert drawn == [pytest.approx(place) for place in ((60, 80), (61.5, 70), (68, 79.996))]
    assert [file.stat().st_size > 1000 for file in save(figure, tmp_path / "sweep-1.5")] == [True, True]
    assert {file.name for file in tmp_path.iterdir()} == {"sweep-1.5.svg", "sweep-1.5.png"}


def test_without_tests_out_of_domain_there_is_no_picture(models):
    for found in models.values():
        del found["test"]["sts13"]
    assert scatter(models, KINDS) is None
    assert scatter({}, {}) is None


def test_kinds_of_models():
    names = ("base", "sts", "soup-1", "ensemble of 3 encoders")
    assert [kind_of(name, {"soup-1": {}}) for name in names] == [Kind.base, Kind.source, Kind.merge, Kind.ensemble]


def test_merges_are_named_by_the_options_that_set_them_apart():
    def merge(strategy, **options):
        return {**record(strategy), "options": {"weighting": "equal", "layers": None, **options}}

    found = labels(
        {
            "soup-1": merge("soup"),
            "ties-1": merge("ties", density=0.2, weights=[1, 2]),
            "ties-2": merge("ties", density=0.5, weights=None),
            "dare-1": merge("dare"),
            "dare-2": merge("dare"),
        }
    )
    assert found == {
        "soup-1": "soup",
        "ties-1": "ties density=0.2 weights=[1,2]",
        "ties-2": "ties density=0.5 weights=null",
        "dare-1": "dare (1)",
        "dare-2": "dare (2)",
    }


def test_a_name_avoids_what_is_taken_and_stays_in_the_picture():
    room = (0.0, 0.0, 200.0, 100.0)
    _, free = best_place((100.0, 50.0), (40.0, 10.0), [], room)
    assert free[0] > 100  # to the right, where nothing stands
    _, moved = best_place((100.0, 50.0), (40.0, 10.0), [free], room)
    assert not (moved[0] < free[2] and free[0] < moved[2] and moved[1] < free[3] and free[1] < moved[3])
    _, inside = best_place((195.0, 50.0), (40.0, 10.0), [], room)
    assert inside[2] <= 200
