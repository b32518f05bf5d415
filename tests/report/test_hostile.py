"""Files of another run, with hostile texts in all their fields: no page, picture or table has one of them unescaped."""

import io
import json
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lightning_embed.report import Run, draw_geometry, draw_landscape, print_doctor, write_comparison
from lightning_embed.report.console import PlainConsole
from lightning_embed.report.pages import template
from lightning_embed.report.scores.model_kinds import read_records
from lightning_embed.storage.names import visible, visible_in
from lightning_embed.types import Choice
from tests.report import hostile

IN_FILES = [
    text for text in hostile.TEXTS if not any("\ud800" <= letter <= "\udfff" for letter in text)
]  # others are refused
drawn = pytest.mark.parametrize(
    "text",
    [*hostile.WORST, *(pytest.param(t, marks=pytest.mark.slow) for t in IN_FILES if t not in hostile.WORST)],
)


def _folder(folder: Path, text: str, **changes: object) -> Path:
    """A run of somebody else."""
    folder.mkdir(parents=True)
    models = hostile.models(text)
    written = {
        "models": models,
        "evaluations": dict.fromkeys(models, text),
        "costs": {name: 1000.0 * number for number, name in enumerate(models)},
    }
    (folder / "results.json").write_text(json.dumps(written))
    (folder / "merged" / "soup-1").mkdir(parents=True)
    (folder / "merged" / "soup-1" / "merge.json").write_text(json.dumps(hostile.record(text)))
    (folder / "landscapes").mkdir()
    (folder / "landscapes" / "1.json").write_text(json.dumps(hostile.landscape(text)))
    return folder


def _page(folder: Path, text: str) -> str:
    run = Run(_folder(folder, text), visible(text))
    return run.write_html({"a": text, f"b{text}": [text]}).read_text()


def _sweep(folder: Path, text: str) -> tuple[str, str]:
    console = PlainConsole(file=io.StringIO(), width=200)
    folders = {
        _folder(folder / name, text): {Choice(f"k{text}", f"{name}{text}", f"k{text}={name}{text}")} for name in "ab"
    }
    write_comparison(folders, folder / "out", console, "dev/mean")
    for picture in (folder / "out").glob("*.svg"):
        ElementTree.fromstring(picture.read_text())
    return (folder / "out" / "report.html").read_text(), console.file.getvalue()  # type: ignore[attr-defined]


@cache
def _tags(make: str) -> frozenset[tuple[str, tuple[str, ...]]]:
    """What the page of a harmless run has."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        page = _page(Path(folder) / "x", "tame") if make == "run" else _sweep(Path(folder), "tame")[0]
    arrow = {
        ("path", ("clip-path", "d", "style")),
        ("g", ("id",)),
        ("path", ("d", "style")),
    }  # of a name beside its point
    return frozenset(hostile.Structure.of(page).tags | arrow)


@drawn
def test_the_page_of_a_run(text: str, tmp_path: Path) -> None:
    found = hostile.Structure.of(_page(tmp_path / "x", text))
    assert found.tags <= _tags("run") | {("title", ())}
    assert visible(f"one{text}") in "".join(found.text)


@drawn
def test_the_page_and_the_table_of_a_sweep(text: str, tmp_path: Path) -> None:
    page, table = _sweep(tmp_path, text)
    assert hostile.Structure.of(page).tags <= _tags("sweep")
    _is_plain(table)


@drawn
def test_pictures_and_tables_of_a_run(text: str, tmp_path: Path) -> None:
    folder = _folder(tmp_path / "x", text)
    (record,) = read_records(folder).values()
    draw_geometry(tmp_path, record)
    draw_landscape(tmp_path, record, visible_in(hostile.landscape(text)))
    pictures = list(tmp_path.glob("*.svg"))
    assert len(pictures) == 3
    for picture in pictures:
        ElementTree.fromstring(picture.read_text())
    console = PlainConsole(file=io.StringIO(), width=1000)
    print_doctor(record, console)
    run = Run(folder, visible(text))
    run.print(console, list(run.models))
    _is_plain(console.file.getvalue())  # type: ignore[attr-defined]
    shown = visible(f"one{text}")
    assert len(shown) > 50 or shown in console.file.getvalue()  # type: ignore[attr-defined]
    assert all(key.isprintable() for key in run.numbers(visible(f"one{text}")))


def _is_plain(printed: str) -> None:
    assert printed.encode()
    assert all(line.isprintable() for line in printed.split("\n"))


@pytest.mark.parametrize("text", hostile.TEXTS)
def test_a_console_prints_what_it_is_given(text: str) -> None:
    console = PlainConsole(file=io.StringIO(), width=1000)
    console.print(f"a{text}b")
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert printed.split() == "\n".join(map(visible, f"a{text}b".split("\n"))).split()


@pytest.mark.parametrize("text", hostile.TEXTS)
def test_escaped(text: str) -> None:
    found = hostile.Structure.of(f"<p>{template.escaped(text)}</p>")
    assert found.tags == {("p", ())}
    assert "".join(found.text) == visible(text)
