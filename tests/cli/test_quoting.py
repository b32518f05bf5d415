"""Paths with any letters, and with `~`, on a command line."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from lightning_embed.cli.quoting import quoted


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("base=~/models/law", "/home/me/models/law"),
        ("base=~", "/home/me"),
        ("base=/tmp/modèle", "/tmp/modèle"),
        ("base='/tmp/modèle'", "/tmp/modèle"),
        ("base=模型", "模型"),
        ("out=/tmp/größe mit raum", "/tmp/größe mit raum"),
        ("base=/tmp/a~b", "/tmp/a~b"),
        ("sources=[~/a,~/b]", ["/home/me/a", "/home/me/b"]),
        ("sources=[~/a, ~/b]", ["/home/me/a", "/home/me/b"]),
        ("sources=[/tmp/é*,b]", ["/tmp/é*", "b"]),
        ("sources=['~/a',\"é, è\",ü]", ["~/a", "é, è", "ü"]),
        ("sources=[a,b]", ["a", "b"]),
        ("sizes=[1,2]", [1, 2]),
        ("merge.layers=['x=0.3']", ["x=0.3"]),
        ("base=null", None),
        ("+name=ñ", "ñ"),
        ("recipe=~/runs/merge.json", "/home/me/runs/merge.json"),
        ("base=été=hiver", "été=hiver"),
    ],
)
def test_as_hydra_reads_them(override: str, value: object) -> None:
    (given,) = quoted([override])
    assert OverridesParser.create().parse_override(given).value() == value


@pytest.mark.parametrize(
    "override",
    [
        "~evaluation",
        "~data.datasets.a=b",
        "merge=soup",
        "a={b: ~/c}",
        "out=${oc.env:HOME}/é",
        "base=\\é",
        "--config-dir",
        "sources=[a",
        "",
    ],
)
def test_left_as_they_are(override: str) -> None:
    assert quoted([override]) in ([override], [override.replace("~/c", "/home/me/c")])


def test_sweeps() -> None:
    for override in ("base=~/a,é", "base=choice(~/a,é)"):
        sweep = OverridesParser.create().parse_override(*quoted([override]))
        assert [value.strip("'") for value in sweep.sweep_string_iterator()] == ["/home/me/a", "é"]


def test_in_a_whole_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grammar refuses them bare: the test fails without quotes."""
    with pytest.raises(Exception, match="Lexer"):
        OverridesParser.create().parse_overrides(["sources=[~/a,/tmp/é]"])
    assert len(OverridesParser.create().parse_overrides(quoted(["sources=[~/a,/tmp/é]", "base=~/b"]))) == 2
