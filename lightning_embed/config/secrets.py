"""Values that no file, page or logger may hold: strings from the environment, passwords, keys and tokens."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from omegaconf import OmegaConf
from omegaconf.resolvers import oc

HIDDEN = "***"
FROM_ENVIRONMENT = "${oc.env:"
_SECRET = r"passw|secret|credential|token(?!s|iz|is)|(?<![a-z])key(?![a-z])|(?:api|access|private|auth)key"
_IS_SECRET = re.compile(_SECRET, re.IGNORECASE)
_USER_OF_URL = re.compile(r"(?<=://)[^/\s@]+(?=@)")  # user:password@, or a token@
_VALUE = r"""(?!["']?\$\{|null\b)("[^"]*"|'[^']*'|[^\s,{}\[\]&'"]+)"""  # an interpolation shows no value
_ASSIGNED = re.compile(rf"([\w.-]*(?:{_SECRET})[\w.-]*=){_VALUE}", re.IGNORECASE)  # api_key=value, ?token=value
_IN_MAPPING = re.compile(rf"""([{{,]\s*["']?[\w.-]*(?:{_SECRET})[\w.-]*["']?\s*:\s*){_VALUE}""", re.IGNORECASE)
_SHORTEST = 8  # letters of a value that is looked for in messages


@dataclass
class _Environment:
    """How ${oc.env:X} resolves in this process, and what it has resolved to."""

    is_hidden: bool = False
    was_read: bool = False

    def __post_init__(self) -> None:
        self.values: dict[str, str] = {}
        self.asked: set[str] = set()  # variables, set or not


_environment = _Environment()


def register_environment() -> None:
    """Register ${oc.env:X} as OmegaConf has it, which inside `hidden_environment` resolves to its own text."""
    OmegaConf.register_new_resolver("oc.env", _of_environment, replace=True)


def _of_environment(key: str, *default: Any) -> str | None:
    _environment.was_read = True
    _environment.asked.add(key)
    if _environment.is_hidden:
        return f"{FROM_ENVIRONMENT}{','.join(map(str, (key, *default)))}}}"
    value: str | None = oc.env(key, *default)
    if key in os.environ:
        _environment.values[key] = os.environ[key]
    return value


def asked_variables() -> list[str]:
    """The variables that ${oc.env:X} has asked for in this process, whether they are set or not."""
    return sorted(_environment.asked)


@contextmanager
def hidden_environment() -> Iterator[_Environment]:
    """Let ${oc.env:X} resolve to its own text; `was_read` of the result says whether it was asked for."""
    _environment.is_hidden = True
    try:
        yield _environment
    finally:
        _environment.is_hidden = False


def is_secret(name: str) -> bool:
    """Whether an option or a variable of this name holds a secret: api_key, HF_TOKEN, password ...; not max_tokens."""
    return _IS_SECRET.search(name) is not None


def without_secrets(value: Any, name: str = "") -> Any:
    """Plain values, with *** for the values of secret options and for the user and password of a URL."""
    if isinstance(value, Mapping):
        return {key: without_secrets(item, str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item, name) for item in value]
    if is_secret(name) and value not in (None, "") and not isinstance(value, bool):
        return value if isinstance(value, str) and value.startswith(FROM_ENVIRONMENT) else HIDDEN
    return without_secrets_in_text(value) if isinstance(value, str) else value


def without_secrets_in_text(text: str) -> str:
    """A text, such as a path or a message, with *** for what it assigns to secret options, and in URLs."""
    return _USER_OF_URL.sub(HIDDEN, _ASSIGNED.sub(rf"\g<1>{HIDDEN}", text))


def without_secrets_in_override(text: str) -> str:
    """The same of an override, which may hold a mapping: {token: value}."""
    return without_secrets_in_text(_IN_MAPPING.sub(rf"\g<1>{HIDDEN}", text))


def without_environment(text: str) -> str:
    """A message without secrets, and without the values that ${oc.env:X} had; paths stay, which a reader needs."""
    for key, value in sorted(_environment.values.items(), key=lambda item: -len(item[1])):
        if len(value) >= _SHORTEST and (is_secret(key) or "/" not in value):
            text = text.replace(value, f"{FROM_ENVIRONMENT}{key}}}")
    return without_secrets_in_text(text)
