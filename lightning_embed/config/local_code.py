"""Files of one's own code that a config names: part of the content by which runs and merges are named.

Without it, an edited loss would find the experts of the loss before.
"""

import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_embed import registry
from lightning_embed.config.content import files_content
from lightning_embed.config.plugins import local_files

_ROOM_OF = {"sampler": "sampler", "experts": "experts", "merge": "merge"}


def content(options: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the files, by code.<path below the working directory>.

    Args:
        options: of the config, by key of its root.
    """
    files = {file.resolve() for key, value in options.items() for file in _files(_ROOM_OF.get(key, "loss"), value)}
    return {f"code.{_shown(file)}": files_content([file]) for file in sorted(files)}


def _files(room: str, value: Any) -> Iterator[Path]:
    if isinstance(value, Mapping):
        if (file := _of_word(room, value.get("name"))) is not None:
            yield file
        if (file := _of_target(value.get("_target_"))) is not None:
            yield file
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _files(room, item)


def _of_word(room: str, name: Any) -> Path | None:
    """The file of a word, if it is in `plugins/` of the working directory."""
    if not isinstance(name, str) or name not in registry.names(room):
        return None
    file = Path(inspect.getsourcefile(registry.get(room, name)) or "")
    return file if file in local_files().values() else None


def _of_target(target: Any) -> Path | None:
    """The file of a class of a module in the working directory: `my_cb.Hello`, `mine.callbacks.Hello`."""
    if not isinstance(target, str) or target.startswith("lightning_embed."):
        return None
    parts = target.split(".")
    files = (Path(*parts[:length]).with_suffix(".py").absolute() for length in range(1, len(parts)))
    return next((file for file in files if file.is_file()), None)


def _shown(file: Path) -> str:
    here = Path.cwd().resolve()
    return file.relative_to(here).as_posix() if file.is_relative_to(here) else file.name
