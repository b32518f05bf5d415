"""JSON files: read with a check of their shape, so that a broken one is found where it is read."""

import json
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

from lightning_embed.errors import CheckpointError, LightningEmbedError

_SHOWN = 60  # letters of a wrong value in a message


class WrongShape(ValueError):
    """Text that is not JSON, or JSON of a different shape; the message has the place, the expected and the found."""


def read_json(
    file: Path,
    shape: Any,
    remedy: str,
    error: type[LightningEmbedError] = CheckpointError,
    name: str = "",
    finite: bool = False,
) -> Any:
    """The content of a JSON file.

    Args:
        file: to read.
        shape: the expected type, such as dict, list[str], a TypedDict or a dataclass; more keys than those are allowed.
        remedy: the end of the message.
        error: class of the error.
        name: of the file in the message; empty: its path.
        finite: refuse NaN and infinity.

    Raises:
        LightningEmbedError: the file is broken, of class `error`.
        OSError: it cannot be read.
    """

    def refuse(reason: object) -> NoReturn:
        raise error(f"{name or file}: {reason}. {remedy}") from None

    if file.is_dir():
        refuse("expected a JSON file, found a folder")
    try:
        return parsed(file.read_bytes(), shape, finite)
    except WrongShape as reason:
        refuse(reason)


def cached_json(file: Path, shape: Any) -> Any | None:
    """The content of a JSON file that can be computed again; None: missing, broken, or with NaN or infinity."""
    try:
        return parsed(file.read_bytes(), shape, finite=True)
    except (OSError, WrongShape):
        return None


def parsed(text: bytes | str, shape: Any, finite: bool = False) -> Any:
    """The value of a JSON text, without changes by the check of its shape.

    Args:
        text: in UTF-8.
        shape: the expected type.
        finite: refuse NaN and infinity, which JSON itself does not have.

    Raises:
        WrongShape: not JSON, or of a different shape.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant if finite else None)
    except UnicodeDecodeError as error:
        raise WrongShape(f"expected JSON, byte {error.start} is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise WrongShape(f"expected JSON, {'found nothing' if not text.strip() else error}") from None
    check_shape(value, text, shape)
    return value


def check_shape(value: Any, text: bytes | str, shape: Any) -> None:
    """Compare a JSON value, and the text that it was read from, with a type. Numbers in quotes are no numbers.

    Raises:
        WrongShape: with the place of the first difference.
    """
    if shape is object:
        return
    if shape in _WORDS:  # pydantic is imported for more than that: a fifth of a second
        if not isinstance(value, shape):
            raise WrongShape(f"expected {_WORDS[shape]}, found {_short(value)}")
        return
    from pydantic import ValidationError

    try:
        _adapter(shape).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        reason = "is missing" if first["type"] == "missing" else f"{first['msg']}, found {_short(first['input'])}"
        raise WrongShape(f"{place}: {reason}" if place else reason) from None


_WORDS: dict[Any, str] = {dict: "an object", list: "a list"}


@cache
def _adapter(shape: Any) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(shape)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"found {name}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
