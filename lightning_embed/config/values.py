"""Plain values and option objects from config nodes."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf

from lightning_embed.config import secrets
from lightning_embed.types import Task


def plain(node: Any, as_words: bool = False) -> Any:
    """A config node as plain Python values, with interpolations resolved.

    Args:
        node: of a config; any other value is returned unchanged.
        as_words: give enums as the words of the command line, for files.
    """
    if not isinstance(node, (DictConfig, ListConfig)):
        return node
    return OmegaConf.to_container(node, resolve=True, enum_to_str=as_words)


def shown_config(cfg: DictConfig) -> dict[str, Any]:
    """The resolved config for files, pages and loggers, without secrets.

    A string from the environment is shown as it is written, ${oc.env:X}, wherever it ends up; a number or a word of an
    enum from there is shown itself, because a record must name it. Passwords, keys and tokens are shown as ***.
    """
    untyped = OmegaConf.create(OmegaConf.to_container(cfg, resolve=False, enum_to_str=True))
    assert isinstance(untyped, DictConfig)
    shown: dict[str, Any] = secrets.without_secrets({k: _shown(value, untyped, k) for k, value in plain(cfg).items()})
    return shown


def _shown(value: Any, parent: Any, key: Any) -> Any:
    """A plain value of a config: enums as words, and strings from the environment as they are written.

    Args:
        value: the resolved value.
        parent: the same config without types, in which a string can stand for a number.
        key: of the value in `parent`.
    """
    with secrets.hidden_environment() as environment:
        environment.was_read = False
        try:
            written = parent[key]
        except Exception:  # a resolver of a user may need the value itself
            written = None
        was_read = environment.was_read
    if isinstance(value, dict):
        return {name: _shown(item, written, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_shown(item, written, number) for number, item in enumerate(value)]
    if was_read and type(value) is str:
        return written if isinstance(written, str) and secrets.FROM_ENVIRONMENT in written else secrets.HIDDEN
    return value.name if isinstance(value, Enum) else value


def build_options(cls: type[Any], node: Mapping[str, Any]) -> Any:
    """Build an options class, nested frozen dataclasses included, from a config node."""
    hints = get_type_hints(cls)
    values = {}
    for item in fields(cls):
        value = node[item.name]
        args = get_args(hints[item.name])
        if get_origin(hints[item.name]) is dict and is_dataclass(args[1]):
            value = {key: build_options(args[1], inner) for key, inner in value.items()}  # type: ignore[arg-type]
        values[item.name] = plain(value)
    return cls(**values)


LOSS_OF_TASK = {
    Task.retrieval: "retrieval_loss",
    Task.sts: "sts_loss",
    Task.classification: "label_loss",
    Task.clustering: "label_loss",
}


def class_name(target: object) -> str:
    """The last part of a `_target_`: the class, whatever its module."""
    return str(target).rpartition(".")[2]
