"""The fenced blocks of a page: files that the reader writes, commands that the reader types, answers that they give."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```(?P<language>\w*) ?(?P<file>[^\n`]*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """What is typed, continued lines joined; `answer`: what the page says that it prints."""

    line: str
    answer: str = ""


@dataclass(frozen=True)
class Page:
    """A page of docs/.

    A block of a language with a file's name behind it (```yaml my-conf/data/mine.yaml) is that file. One without a
    language holds commands; where it begins with `$ `, the lines below each command are its answer. `text` is neither.
    """

    path: Path

    def _blocks(self) -> Iterator[tuple[str, str, str]]:
        for found in _BLOCK.finditer(self.path.read_text()):
            yield found["language"], found["file"].strip(), found["body"]

    def files(self) -> dict[str, str]:
        """Name -> content of what the reader writes."""
        return {file: body for language, file, body in self._blocks() if language and file}

    def unnamed(self) -> list[str]:
        """Blocks of code that are neither a file nor a command."""
        return [body for language, file, body in self._blocks() if language in ("python", "yaml") and not file]

    def inline(self) -> list[str]:
        """`python train.py ...` inside of sentences."""
        return re.findall(r"`(python (?:train|merge)\.py [^`]+)`", _BLOCK.sub("", self.path.read_text()))

    def commands(self) -> list[Command]:
        """All that is typed, in order."""
        bodies = [body for language, _, body in self._blocks() if language in ("", "bash")]
        return [command for body in bodies for command in _commands(body.replace("\\\n", " "))]


def _commands(body: str) -> Iterator[Command]:
    if not body.startswith("$ "):
        yield from (Command(line.strip()) for line in body.splitlines() if line.strip() and not line.startswith("#"))
        return
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        line, _, answer = part.partition("\n")
        yield Command(line.strip(), answer.strip())
