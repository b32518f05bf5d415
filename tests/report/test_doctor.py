"""What the doctor says, on the terminal and in pictures."""

import io
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from rich.console import Console

from lightning_embed.report.figures.geometry import FILE, draw_geometry, pictures
from lightning_embed.report.figures.svg import heat_map, lines, nice_ticks
from lightning_embed.report.pages.doctor import print_doctor
from lightning_embed.report.scores.merge_groups import examined
from tests.report.conftest import record


def shown(found, width: int = 80) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    print_doctor(found, console)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_the_terminal_has_numbers_and_words():
    text = shown(record("soup"))
    assert len(text) <= 12
    rows = {line.split()[0]: line.split()[1:] for line in text}
    assert rows["retrieval"] == ["1.23", "1.23%", "1.00", "0.07"]
    assert rows["merged"][-4:] == ["1.50", "1.50%", "0.66", "0.77"]
    assert "signs conflict at 41% of the elements that moved (chance: 50%)" in " ".join(text)
    assert text[-2] == "The task vectors are <b>nearly</b> orthogonal."
    assert text[-1] == "In <b> alone 'retrieval' and 'sts' point against each other (cosine -0.25)."


def test_the_doctor_alone_has_no_merged_model():
    assert not any("merged" in line for line in shown(record("none")))
    assert shown({**record("soup"), "geometry": None}) == []


def test_many_sources_show_their_nearest_and_furthest():
    found = record("soup")
    names = [f"source{i}" for i in range(6)]
    found["sources"] = [{"name": name, "sha256": {}} for name in names]
    cosines = [[1.0 if i == j else 0.1 * abs(i - j) for j in range(6)] for i in range(6)]
    found["geometry"] |= {"delta_norms": [1.0] * 6, "delta_cosines": cosines, "merged_cosines": [0.5] * 6}
    rows = {line.split()[0]: line.split()[1:] for line in shown(found)}
    assert rows["source0"][-2:] == ["0.10", "0.50"]


def test_pictures_are_whole_images_without_frozen_layers(tmp_path):
    draw_geometry(tmp_path, record("soup", ranks=[3.0, 2.0]))
    image = (tmp_path / FILE).read_text()
    texts = ["".join(node.itertext()) for node in ElementTree.fromstring(image).iter() if node.tag.endswith("text")]
    assert "pooler" not in texts
    for text in ("embeddings", "retrieval", "sts", "soup", "0.07", "0.66", "by chance", "stable rank"):
        assert text in texts
    assert ">none<" not in "".join(pictures(*examined({"none": record("none")})))


def test_sources_equal_to_the_base_have_no_picture():
    found = record("soup")
    for place in found["geometry"]["groups"].values():
        place["delta_norms"] = [0.0, 0.0]
    assert pictures(*examined({"soup": found})) == []


def test_records_of_other_sources_are_kept_apart():
    other = record("soup")
    other["sources"] = [{**source, "sha256": {"model.safetensors": "other"}} for source in other["sources"]]
    seen = examined({"a": record("soup"), "b": record("slerp"), "c": other})
    assert [list(found.merges) for found in seen] == [["a", "b"], ["c"]]


def test_a_line_ends_where_its_last_value_is():
    chart = lines("t", "u", ["layer.0", "layer.1"], {"a": [0.0, 10.0], "b": [5.0, None]}, level=("half", 5.0))
    a, b = (
        re.findall(r"[\d.]+,[\d.]+", line) for line in re.findall(r'points="([^"]+)"[^>]+stroke-width="1.6"', chart)
    )
    assert (len(a), len(b)) == (2, 1)
    height = {point: float(point.split(",")[1]) for point in (*a, *b)}
    assert height[a[1]] < height[b[0]] < height[a[0]]


def test_names_at_the_ends_of_lines_do_not_meet():
    chart = lines("t", "u", ["layer.0"], {f"name{i}": [1.0 + i / 100] for i in range(8)})
    heights = sorted(float(y) for y in re.findall(r'y="([\d.]+)"[^>]+>name', chart))
    assert all(high - low >= 11.9 for low, high in pairwise(heights))


def test_a_cell_says_its_sign_by_colour_and_number():
    chart = heat_map("t", ["r"], ["plus", "minus"], [[0.5, -0.5]])
    plus, minus = re.findall(r'<rect[^>]+fill="(#\w+)"', chart)
    assert plus != minus
    assert "-0.50" in chart


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (-0.03, 0.2, [-0.05, 0, 0.05, 0.1, 0.15, 0.2]),
        (0.0, 47.0, [0, 10, 20, 30, 40, 50]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert nice_ticks(low, high) == pytest.approx(expected)


def test_equal_values_have_ticks():
    assert nice_ticks(0.0, 0.0)[0] < nice_ticks(0.0, 0.0)[-1]
