"""The doctor's report, in numbers and in words: on the terminal and in report.html."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from lightning_embed.report.console import plainly
from lightning_embed.report.figures.geometry import pictures
from lightning_embed.report.pages.advice_text import sentence
from lightning_embed.report.pages.template import escaped, table
from lightning_embed.report.scores.merge_groups import Examined, Geometry, Record, examined
from lightning_embed.storage.names import visible_lines

_MOST_COLUMNS = 4  # cosines that fit side by side in a line of eighty letters


def print_doctor(record: Record, console: Console) -> None:
    """Print the geometry of a merge's sources, and advice on merging them."""
    for seen in examined({f"merged by {record['strategy']}": record}):
        header, *rows = _numbers(seen)
        shown = Table(box=SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(header):
            shown.add_column(plainly(column), justify="right" if number else "left", overflow="fold")
        for row in rows:
            shown.add_row(*map(plainly, row))
        console.print(shown)
        for text in [f"{_together(seen)}.", *_sentences(seen)]:
            console.print(visible_lines(text), markup=False, highlight=False)


def doctor_section(seen: Examined) -> str:
    """The same as HTML, with the pictures and, folded, the numbers of each layer."""
    header, *rows = (["<br>".join(map(escaped, cell.split("\n"))) for cell in row] for row in _numbers(seen))
    sentences = "".join(f"<p>{escaped(text)}</p>" for text in _sentences(seen))
    charts = f'<div class="panels">{"".join(pictures(seen))}</div>'
    return (
        f'{sentences}{table(header, rows)}<p class="note">{_together(seen)}.</p>{charts}'
        f"<details><summary>Every layer</summary>{table(*_layers(seen))}</details>"
    )


def _sentences(seen: Examined) -> list[str]:
    return [sentence(finding) for finding in seen.geometry["expectations"]]


def _together(seen: Examined) -> str:
    """The numbers that describe all sources together."""
    count = len(seen.names)
    if count == 1:
        return "One source"
    conflicts = (
        f"{seen.geometry['sign_conflict_share']:.0%} of the elements that moved (chance: {1 - 2.0 ** (1 - count):.0%})"
    )
    directions = f"{seen.geometry['effective_directions']:.2f} independent directions in {count} sources"
    return f"{directions}; signs conflict at {conflicts}"


def _numbers(seen: Examined) -> list[list[str]]:
    """A header, a row per source, and one per merge."""
    what, wide = "source - base" if seen.geometry["base_norm"] else "source", len(seen.names) <= _MOST_COLUMNS
    columns = [f"cosine to\n{name}" for name in seen.names] if wide else ["lowest\ncosine", "highest\ncosine"]
    lines = [*zip(seen.names, seen.geometry["delta_norms"], seen.geometry["delta_cosines"], strict=True)]
    lines += [(name, found["merged_norm"], found["merged_cosines"]) for name, found in seen.merges.items()]
    rows = []
    for number, (name, norm, cosines) in enumerate(lines):
        others = [cosine for other, cosine in enumerate(cosines) if other != number]
        rows.append(
            [
                name,
                f"{norm:#.3g}".rstrip("."),
                _share(norm, seen.geometry),
                *map(_two, cosines if wide else (min(others), max(others))),
            ]
        )
    return [[f"\ndelta = {what}", "\nnorm", "\nof |base|", *columns], *rows]


def _layers(seen: Examined) -> tuple[list[str], list[list[str]]]:
    names = list(map(escaped, seen.names))
    ranked = seen.geometry["stable_ranks"] is not None
    header = ["layer", *(f"{name}<br>of |base|" for name in names), "cosines", "signs<br>conflict"]
    header += [f"{name}<br>stable rank" for name in names if ranked]
    return header, [_layer(name, part, ranked) for name, part in seen.geometry["groups"].items()]


def _layer(name: str, part: Geometry, ranked: bool) -> list[str]:
    count = len(part["delta_norms"])
    cosines = [part["delta_cosines"][i][j] for i in range(count) for j in range(i + 1, count)]
    ranks: Sequence[str] = [f"{rank:.1f}" for rank in part["stable_ranks"]] if part["stable_ranks"] else ["-"] * count
    shares = [_share(norm, part) for norm in part["delta_norms"]]
    reach = " to ".join(dict.fromkeys(map(_two, (min(cosines), max(cosines))))) if cosines else "-"
    return [escaped(name), *shares, reach, f"{part['sign_conflict_share']:.0%}", *(ranks if ranked else [])]


def _share(norm: float, part: Geometry) -> str:
    return f"{norm / part['base_norm']:.2%}" if part["base_norm"] else "-"


def _two(number: float) -> str:
    return f"{number:.2f}"
