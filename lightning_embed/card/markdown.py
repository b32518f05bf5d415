"""Markdown of texts from elsewhere: names, options and messages that may hold its signs, HTML or line breaks."""

import re
from collections.abc import Iterable
from urllib.parse import quote

from lightning_embed.storage.names import visible

_SIGNS = re.compile(r"[\\`*\[\]<>&~]")


def escaped(text: object) -> str:
    """A text within a line, read as it is."""
    return _SIGNS.sub(lambda sign: f"\\{sign[0]}", visible(str(text)))


def code(text: object) -> str:
    """A text as code within a line."""
    shown = visible(str(text))
    fence = _fence(shown, 1)
    space = " " if "`" in shown else ""
    return f"{fence}{space}{shown}{space}{fence}"


def block(text: str, language: str = "") -> str:
    """Lines of code; the text ends with a line break or without one."""
    fence = _fence(text, 3)
    return f"{fence}{language}\n{text.removesuffix(chr(10))}\n{fence}"


def link(name: str) -> str:
    """A link to a repository on the hub."""
    return f"[{escaped(name)}](https://huggingface.co/{quote(visible(name), safe='/')})"


def table(header: Iterable[str], rows: Iterable[Iterable[str]], words: int = 1) -> str:
    """A table of Markdown: the first `words` columns are aligned to the left, the numbers after them to the right."""
    head = list(header)
    lines = [head, ["---" if column < words else "---:" for column in range(len(head))], *rows]
    whole = ([cell.replace("|", r"\|") for cell in line] for line in lines)  # a name or a prompt may have one
    return "\n".join(f"| {' | '.join(line)} |" for line in whole)


def _fence(text: str, least: int) -> str:
    longest = max(map(len, re.findall("`+", text)), default=0)
    return "`" * max(least, longest + 1)
