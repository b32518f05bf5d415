"""Names of runs, datasets and experts, which name folders too; and names from elsewhere, as they can be shown."""

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from lightning_embed.errors import ConfigError

_LETTERS = ("L", "M", "N")  # of any script: letters, accents and vowel signs, digits
_MARKS = "_-.+"
_MOST, _MOST_BYTES = 80, 160  # file names have 255 bytes, and some have more than the name in them
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp", "Co", "Cn")
_JOINERS = "\u200c\u200d"  # between letters of several scripts


def check_name(what: str, name: str) -> None:
    """Refuse a name; see `name_problem`.

    Raises:
        ConfigError: with the allowed characters.
    """
    if problem := name_problem(what, name):
        raise ConfigError(problem)


def name_problem(what: str, name: str, reserved: tuple[str, ...] = ()) -> str | None:
    """Why a name cannot name a folder on every machine, in a sentence with the allowed characters; None: it can.

    Args:
        what: begins the message: `name`, `data.datasets` ...
        name: the name.
        reserved: names that have a meaning of their own.
    """
    shown = f"'{visible(name)}'" if len(name) <= _MOST else f"'{visible(name[:20])}...' of {len(name)} letters"
    if name in reserved:
        return f"{what}: the name {shown} has a meaning of its own in a run. Choose a different one."
    wrong = [letter for letter in name if letter not in _MARKS and unicodedata.category(letter)[0] not in _LETTERS]
    too_long = len(name) > _MOST or len(name.encode(errors="replace")) > _MOST_BYTES
    if not name or wrong or too_long or name[0] in ".-+" or name[-1] == ".":
        return (
            f"{what}: expected a name of letters and digits of any script, _ - . and + (the first no . - +, the last no "
            f"., at most {_MOST}), got {shown}. Rename it."
        )
    return None


def natural(path: str) -> list[tuple[int, str]]:
    """The sort key of a path, in which numbers count as numbers: e2 before e10."""
    parts = re.split(r"([0-9]+)", path)
    return [(int(part), part) if part.isdecimal() else (-1, part) for part in parts]


def visible(text: str) -> str:
    """The text, with control characters, broken characters and line breaks as escapes, as `ascii` writes them."""
    return "".join(_escaped(letter) if _is_unseen(letter) else letter for letter in text)


def label(name: str) -> str:
    """The name of a folder from elsewhere as the name of a model: on one line, and short enough for a file name."""
    shown = visible(name)
    if len(shown.encode()) <= _MOST_BYTES:
        return shown
    head = shown.encode()[: _MOST_BYTES - 10].decode(errors="ignore")
    return f"{head}-{hashlib.blake2b(name.encode(errors='surrogatepass'), digest_size=4).hexdigest()}"


def visible_lines(text: str) -> str:
    """The same of a text of several lines, whose line breaks stay."""
    return "\n".join(map(visible, text.split("\n")))


def visible_in(value: Any) -> Any:
    """Plain values of another's file, with all texts as `visible` has them."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, Mapping):
        return {visible_in(key): visible_in(item) for key, item in value.items()}
    return [visible_in(item) for item in value] if isinstance(value, (list, tuple)) else value


def _is_unseen(letter: str) -> bool:
    return unicodedata.category(letter) in _UNSEEN and letter not in _JOINERS


def _escaped(letter: str) -> str:
    return ascii(letter)[1:-1]
