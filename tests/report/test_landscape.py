"""The loss between sources, as pictures."""

import re
from typing import Any

import numpy as np
import pytest

from lightning_embed.report.figures.landscape import _View, draw_landscape, draw_paths, draw_plane, read_landscapes
from lightning_embed.report.figures.style import as_svg
from lightning_embed.report.scores.merge_groups import Examined, examined
from tests.report.conftest import record

PLACES = [[0.7, 0.1], [0.1, 0.7]]  # of unit vectors with the cosine 0.28
COSINE = 0.28


def landscape(tasks: tuple[str, ...] = ("mean", "retrieval", "sts")) -> dict[str, Any]:
    walks = [
        {"start": start, "end": end, "shares": [0.0, 0.5, 1.0], "losses": {task: [2.0, 1.0, 1.5] for task in tasks}}
        for start, end in (("base", "retrieval"), ("base", "sts"), ("retrieval", "sts"))
    ]
    losses = {task: [[1.0, 0.5], [0.4, 0.2]] for task in tasks}
    plane = {"sources": ["retrieval", "sts"], "places": PLACES, "ticks": [0.0, 1.0], "losses": losses}
    found = record("soup")
    return {
        "sources": found["sources"],
        "base": found["base"],
        "walks": walks,
        "plane": plane,
        "batches": 4,
        "findings": ["Between <a> and b"],
    }


def seen(merged: list[float], norm: float) -> Examined:
    """Two unit vectors, and a merge with these cosines to them."""
    found = record("soup")
    found["geometry"] |= {
        "delta_norms": [1.0, 1.0],
        "delta_cosines": [[1.0, COSINE], [COSINE, 1.0]],
        "merged_norm": norm,
        "merged_cosines": merged,
    }
    (one,) = examined({"soup": found})
    return one


def test_sources_lie_where_they_were_placed_and_their_mean_between_them():
    length = ((1 + COSINE) / 2) ** 0.5  # of the mean of the two
    view = _View(landscape()["plane"], seen([length, length], length))
    found = {name: view.place(products, norm) for name, products, norm in view.models()}
    for name, place in (("retrieval", PLACES[0]), ("sts", PLACES[1]), ("soup", [0.4, 0.4])):
        assert found[name][0] == pytest.approx(place), name
        assert found[name][1] == pytest.approx(0, abs=1e-6)


def test_what_lies_outside_the_plane_is_projected_and_says_so():
    view = _View(landscape()["plane"], seen([0.5, 0.5 * COSINE], 2.0))  # a unit along the first, and sqrt(3) out of it
    place, outside = {name: view.place(products, norm) for name, products, norm in view.models()}["soup"]
    assert place == pytest.approx(PLACES[0])
    assert outside == pytest.approx(0.75**0.5)
    picture = as_svg(draw_plane(landscape(), seen([0.5, 0.5 * COSINE], 2.0), {}))
    assert "soup (87% outside)" in picture
    assert "retrieval (" not in picture


def test_the_plane_has_a_panel_per_task_and_the_path_of_a_search():
    path = [{"coefficients": [share, share]} for share in (0.2, 0.5, 0.6)]
    picture = as_svg(draw_plane(landscape(), seen([0.8, 0.8], 0.8), {"soup": path}))
    for text in ("mean loss of the tasks; + lowest: 0.2", "loss (retrieval)", "loss (sts)", "search of soup", "base"):
        assert text in picture
    assert "search of" not in as_svg(draw_plane(landscape(), seen([0.8, 0.8], 0.8), {"soup": []}))
    several = as_svg(draw_plane(landscape(), seen([0.8, 0.8], 0.8), {"soup": path, "ties": path, "dare": []}))
    assert "search of" not in several
    assert several.count(">searches<") == 3, "one entry in the legend of each panel"


def test_one_task_is_one_panel():
    picture = as_svg(draw_plane(landscape(("mean",)), seen([0.8, 0.8], 0.8), {}))
    assert picture.count("lowest:") == 1


def test_paths_are_in_percent_of_the_base():
    picture = as_svg(draw_paths(landscape()))
    for text in ("loss, % of the base", "retrieval", "sts", "half"):
        assert text in picture
    assert not re.findall(r"href=\"http|<script", picture)


def test_pictures_lie_beside_the_merge(tmp_path):
    draw_landscape(tmp_path, record("soup"), landscape())
    assert {file.name for file in tmp_path.iterdir()} == {"paths.png", "paths.svg", "plane.png", "plane.svg"}
    draw_landscape(tmp_path / "..", record("soup"), {**landscape(), "walks": [], "plane": None})


def test_a_folder_without_landscapes(tmp_path):
    assert read_landscapes(tmp_path) == []


def test_the_lowest_cell_is_marked_where_it_is():
    losses = np.array(landscape()["plane"]["losses"]["mean"])
    assert np.unravel_index(losses.argmin(), losses.shape) == (1, 1)
