"""Layouts of model directories: is each one merged rightly, or refused with a sentence?

    python benchmarks/layouts.py                    (all)
    python benchmarks/layouts.py --only dense       (layouts whose name contains the word)

Each layout is written in small random models of each of its families: a base and two or three sources. Each is merged by
soup, task_arithmetic and ties, through the same functions as merge.py. A row passes if the merged directory opens (in
sentence-transformers where the sources have modules, else in transformers), has the reference's tensors, computed in
float64 from what the same library reads in the sources, and gives finite embeddings; or if it is refused, where a
refusal is expected, with the expected sentence. There is no other outcome. Exit status 1: a row failed. No network.
"""

import argparse
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import transformers
from layout_list import LAYOUTS, Layout
from layout_models import MERGES, TOLERANCE, Case, directories, embed, read, reference, run_merge

from lightning_embed.config import schema
from lightning_embed.errors import LightningEmbedError


@dataclass(frozen=True)
class Row:
    """What became of a layout: the largest difference by word, or the sentence of the refusal; `fault`: what is wrong."""

    outcome: str
    fault: str | None = None


def check(found: Layout, family: str, folder: Path) -> Row:
    """Write a layout and merge it by three words."""
    case = found.make(folder, family)
    differences = {}
    for word in MERGES:
        try:
            merged = run_merge(case, word, folder / word)
        except LightningEmbedError as error:
            return _refused(found, str(error))
        except Exception as error:  # a traceback for who typed the command
            return Row("no sentence", f"{word}: {type(error).__name__}: {str(error)[:300]}")
        if found.refused is not None:
            return Row("merged", f"{word} was not refused; expected: {found.refused}")
        try:
            differences[word] = _difference(case, family, word, merged)
        except Exception as error:  # whatever the libraries raise: a merged model must open
            return Row("merged", f"{word}: {type(error).__name__}: {str(error)[:300]}")
    largest = max(differences.values())
    return Row(f"{largest:.0e}", None if largest < TOLERANCE else f"differs by {differences}")


def _refused(found: Layout, sentence: str) -> Row:
    shown = f"refused: {sentence[:100]}"
    if found.refused is None:
        return Row(shown, f"refused: {sentence}")
    return Row(shown, None if re.search(found.refused, sentence) else f"expected {found.refused}: {sentence}")


def _difference(case: Case, family: str, word: str, merged: Path) -> float:
    """The largest difference from the reference, after the checks without a number."""
    left = [name for name in case.absent if list(merged.rglob(name))]
    assert not left, f"{left} were copied"
    assert not any("_name_or_path" in file.read_text() for file in merged.rglob("config.json")), "it names its origin"
    assert embed(merged).isfinite().all(), "embeddings are not finite"
    models = [read(case.equal.get(path, path), family) for path in directories(case)]
    expected, tensors = reference(models[:-1], models[-1], word), read(merged, family)
    return max(float((tensors[name] - tensor).abs().max()) for name, tensor in expected.items())


def rows(only: str) -> Iterator[tuple[Layout, str]]:
    """Layouts whose name contains `only`, with each of their families."""
    for found in LAYOUTS:
        if only.casefold() in found.name.casefold():
            yield from ((found, family) for family in found.families)


def quiet() -> None:
    """Silence the libraries that write the layouts."""
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="layouts whose name contains this")
    options = parser.parse_args()
    quiet()
    schema.register()
    faults, count = 0, 0
    for found, family in rows(options.only):
        with TemporaryDirectory() as name:
            row = check(found, family, Path(name))
        count += 1
        faults += row.fault is not None
        print(
            f"{'FAULT' if row.fault else 'ok   '}  {found.name:45} {family:11} {row.fault or row.outcome}", flush=True
        )
    print(f"{count - faults} of {count} layouts are merged as the reference, or refused with their sentence")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
