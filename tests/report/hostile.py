"""Texts that break what they are put into unescaped, and files of another run that hold one of them everywhere."""

from html.parser import HTMLParser
from typing import Any

TEXTS = [
    '"><script>alert(1)</script>', "<img src=x onerror=alert(1)>", "</title><b>", "</svg><b>", "</pre></details><i>", "--><u>x</u><!--",
    "]]><b>", "&lt;b&gt;&amp;", "' onload='x", "a|b", "a\nb", "a\r\n\r\n# b", "---", "***", "# a", "- a", "1. a", "> a", "`a`", "```",
    "a\n```\n<b>\n", "[a](javascript:alert(1))", "![a](http://x/y)", "](b)<c>", "*a*", "a\\", "$a$b^{$", r"\frac", "[/red]", "[bold]a", ":smile:",
    "\x1b[31mred", "\x9b31m", "\x07\x08", "a\0b", "\ud800", "\udcff", "\u202ea", "\u2028", "😀", "检索", "${oc.env:HOME}", "{0}", "%s",
    "x" * 300, " a ", "", "none", "no", "1", "~", "<!--", "<?php", "{{a}}", "\tb",
]  # fmt: skip

WORST = [
    '"><script>alert(1)</script>',
    "$a$b^{$",
    "[/red]",
    "x" * 300,
]
"""Those for what takes seconds to draw; the others are drawn by the slow tests."""


def results(text: str, model: str) -> dict[str, Any]:
    """The scores of a model, of two tasks in two domains, with a further metric."""

    def score(task: str, points: float, inside: bool) -> dict[str, Any]:
        found = {"task": task, "metric": f"m{text}", "score": points, "in_domain": inside, "more": {f"w{text}@3": 4.0}}
        return {**found, "each": [points / 100] * 4, "more_each": {f"w{text}@3": [0.1] * 4}}

    points = 50.0 + len(model) % 7
    tests = {f"t{text}": score(f"k{text}", points, True), f"u{text}": score(f"k{text}", points, False)}
    return {"dev": {f"t{text}": score(f"k{text}", points, True)}, "test": tests}


def models(text: str) -> dict[str, Any]:
    return {name: results(text, name) for name in ("base", f"one{text}", f"two{text}", f"soup{text}")}


def _part(layer_ranks: bool = True) -> dict[str, Any]:
    return {
        "base_norm": 10.0, "delta_norms": [1.0, 2.0], "delta_cosines": [[1.0, 0.2], [0.2, 1.0]], "sign_conflict_share": 0.4,
        "effective_directions": 1.9, "merged_norm": 1.1, "merged_cosines": [0.7, 0.6], "stable_ranks": [3.0, 4.0],
    }  # fmt: skip


def record(text: str) -> dict[str, Any]:
    """A merge.json."""
    sources = [
        {"name": f"{name}{text}", "path": text, "size": 3, "sha256": {f"f{text}": text}, "dropped": [text], "lent": [text],
         "differing_files": [text]}
        for name in ("one", "two")
    ]  # fmt: skip
    facts = {"layer": text, "source": text, "sources": [f"a{text}", f"b{text}"], "cosine": -0.2, "ratio": 9.0}
    findings = [text, {"code": "opposed_in_layer", "facts": facts}, {"code": "outlier_layer", "facts": facts}]
    groups = {f"layer{text}.{number}": _part() for number in range(2)} | {f"pooler{text}": _part()}
    return {
        "strategy": f"soup{text}", "options": {f"o{text}": text, "layers": [text]}, "plan": {f"p{text}": [text], "weights": [0.5, 0.5]},
        "sources": sources, "base": {**sources[0], "name": f"base{text}"}, "out_dtype": text, "seed": 1,
        "geometry": _part() | {"groups": groups, "expectations": [*findings, {"code": f"c{text}", "facts": {text: text}}]},
        "sha256": {f"f{text}": text}, "seconds": 1.0, "bytes": 10, "versions": {f"v{text}": text}, "looks_at": {f"l{text}": text},
        "probe_rows": 3.0,
    }  # fmt: skip


def landscape(text: str) -> dict[str, Any]:
    losses = [2.0, 1.0, 1.5]
    names = ["base", f"one{text}", f"two{text}"]
    walks = [
        {"start": start, "end": end, "shares": [0.0, 0.5, 1.0], "losses": {f"k{text}": losses, f"j{text}": losses}}
        for start, end in (names[:2], names[::2], names[1:])
    ]
    plane = {"sources": names[1:], "places": [[0.7, 0.1], [0.1, 0.7]], "ticks": [0.0, 1.0],
             "losses": {f"k{text}": [[1.0, 0.5], [0.4, 0.2]]}}  # fmt: skip
    kept = record(text)
    return {
        "sources": kept["sources"],
        "base": kept["base"],
        "walks": walks,
        "plane": plane,
        "findings": [text],
        "batches": 1,
    }


class Structure(HTMLParser):
    """The tags of a page, each with the names of its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[tuple[str, tuple[str, ...]]] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add((tag, tuple(sorted(name for name, _ in attrs))))

    def handle_pi(self, data: str) -> None:
        self.tags.add(("?", (data,)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @classmethod
    def of(cls, page: str) -> "Structure":
        found = cls()
        found.feed(page)
        found.close()
        return found
