"""Quotes for paths on a command line: Hydra's grammar refuses letters beyond ASCII and `~` without them."""

import os
import re
from collections.abc import Sequence

# a quoted text, or a text between the punctuation of lists, sweeps and dictionaries
_PART = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^'"\[\](){},]+""")
_REFUSED = re.compile(r"[^\x00-\x7f]|~")


def quoted(overrides: Sequence[str]) -> list[str]:
    """The overrides of a command line, in quotes where Hydra needs them, with `~` as the user's folder.

    A shell expands `~` at the beginning of a word only, and `base=~/models` has it inside.
    """
    return [_quoted(override) for override in overrides]


def _quoted(override: str) -> str:
    key, equals, value = override.partition("=")
    if not equals or not _REFUSED.search(value) or "${" in value or "{" in value:
        return override
    return key + equals + _PART.sub(lambda part: _part(part[0]), value)


def _part(text: str) -> str:
    if text[0] in "'\"" or "\\" in text or not _REFUSED.search(text):
        return text
    bare = text.strip()
    before, after = text[: text.index(bare)], text[text.index(bare) + len(bare) :]
    return f"{before}'{os.path.expanduser(bare)}'{after}"
