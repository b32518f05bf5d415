"""Files of a part: named by a pattern or a list, or found in the dataset's folder by their names."""

import glob
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lightning_embed.data.file_access import SUFFIXES, exists
from lightning_embed.errors import DataError
from lightning_embed.storage.names import natural
from lightning_embed.storage.remote import as_path, is_remote

NAMES = {"train": ("train",), "dev": ("dev", "validation", "valid", "val"), "test": ("test",)}
"""Names by which the files of a part are found in a folder, the first one that exists."""

_SHARD = re.compile(r"(?P<before>.*-)(?P<number>\d+)(?P<of>-of-(?P<total>\d+))(?P<after>.*)")


def is_pattern(place: str) -> bool:
    """Whether a path is a pattern of names, as in data/train-*.jsonl."""
    return glob.has_magic(place) and not exists(as_path(place))


def named(place: Any, base: Path, what: str) -> list[Path]:
    """The files or the folder that an option names, by a path, a pattern, or a list of them; in their natural order.

    Args:
        place: the option's value.
        base: the folder that they are relative to.
        what: begins the messages: `faq: no train file`.

    Raises:
        DataError: a file that does not exist, a pattern without files, a series with a hole, a file named twice.
    """
    found: list[Path] = []
    for each in map(str, place if isinstance(place, (list, tuple)) else [place]):
        path = as_path(each) if is_remote(each) else base / as_path(each)
        if not is_remote(each) and not _leads_somewhere(path) and _leads_somewhere(Path(each)):
            path = Path(each)  # from the working directory, as `path` itself
        if exists(path):
            found.append(path)
        elif glob.has_magic(each):
            found += _matching(path, what)
        else:
            raise DataError(f"{what} {path}.")
    if twice := [path for path, times in Counter(map(str, found)).items() if times > 1]:
        raise DataError(f"{what.partition(':')[0]}: {twice[0]} is named twice. Name it once.")
    return found


def found_in(folder: Path, listing: Mapping[str, Path], part: str) -> list[Path]:
    """The files of a part in a folder: train.jsonl, train-00000-of-00002.parquet, the same in data/, or train/.

    Args:
        folder: the folder.
        listing: what is in it, by name.
        part: train, dev or test.

    Raises:
        DataError: a series with a hole.
    """
    data = listing.get("data")
    for name in NAMES[part]:
        for files in (listing, listed(data) if data is not None and data.is_dir() else {}):
            if one := next((files[name + suffix] for suffix in SUFFIXES if name + suffix in files), None):
                return [one]
            if shards := [file for file in files.values() if _is_shard_of(name, file.name)]:
                return require_whole(shards)
        if name in listing:
            return [folder / name]
    return []


def listed(folder: Path) -> dict[str, Path]:
    """What is in a folder, by name, in natural order."""
    return {path.name: path for path in sorted(folder.iterdir(), key=lambda path: natural(path.name))}


def rows_in(folder: Path) -> list[Path]:
    """The files of rows in a folder, in natural order.

    Raises:
        DataError: a series with a hole.
    """
    return require_whole([path for name, path in listed(folder).items() if name.endswith(SUFFIXES)])


def require_whole(files: Sequence[Path]) -> list[Path]:
    """The files in natural order, if no series of ...-00000-of-00002... has a hole.

    Raises:
        DataError: names what is missing, or two series of one name.
    """
    series: dict[tuple[str, str, str], list[re.Match[str]]] = defaultdict(list)
    for file in files:
        if shard := _SHARD.fullmatch(file.name):
            series[str(file.parent), shard["before"], shard["after"]].append(shard)
    for (folder, before, after), shards in series.items():
        totals = sorted({shard["of"] for shard in shards})
        if len(totals) > 1:
            raise DataError(
                f"{folder}: files of two series, {before}...{totals[0]}{after} and {before}...{totals[1]}{after}. "
                "Remove one, or name the files."
            )
        if holes := _holes(shards):
            shown = ", ".join(holes[:3]) + (f" and {len(holes) - 3} more" if len(holes) > 3 else "")
            raise DataError(
                f"{folder}: {shown} of {shards[0]['total']} files missing. Copy it, or name the files to read."
            )
    return sorted(files, key=lambda file: natural(str(file)))


def _holes(shards: Sequence[re.Match[str]]) -> list[str]:
    """The names that a series lacks; it is counted from 0, or as some do, from 1."""
    present, total, digits = {int(s["number"]) for s in shards}, int(shards[0]["total"]), len(shards[0]["number"])
    first = int(total in present)
    absent = (number for number in range(first, total + first) if number not in present)
    return [f"{shards[0]['before']}{n:0{digits}}{shards[0]['of']}{shards[0]['after']}" for n in islice(absent, 1000)]


def _is_shard_of(part: str, name: str) -> bool:
    shard = _SHARD.fullmatch(name)
    return shard is not None and shard["before"] == f"{part}-" and name.endswith(SUFFIXES)


def _matching(pattern: Path, what: str) -> list[Path]:
    if not (found := _globbed(pattern)):
        raise DataError(f"{what} matches {pattern}.")
    return require_whole(found)


def _leads_somewhere(path: Path) -> bool:
    return exists(path) or (glob.has_magic(str(path)) and bool(_globbed(path)))


def _globbed(pattern: Path) -> list[Path]:
    if isinstance(pattern, Path):
        return [Path(path) for path in glob.glob(str(pattern), recursive=True)]
    start = pattern
    while glob.has_magic(str(start)):
        start = start.parent
    return list(start.glob(str(pattern)[len(str(start)) :].lstrip("/")))
