"""Plain values and option objects from config nodes."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ListConfig, OmegaConf

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
    """The resolved config for files, pages and loggers, without values from the environment, such as API keys."""
    shown: dict[str, Any] = plain(cfg, as_words=True)
    loggers: Any = OmegaConf.to_container(cfg.get("logger") or OmegaConf.create({}), resolve=False)
    for name, raw in loggers.items():
        hidden = [key for key, value in raw.items() if isinstance(value, str) and "oc.env:" in value]
        shown["logger"][name] |= dict.fromkeys(hidden, "from the environment")
    return shown


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
