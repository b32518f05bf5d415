"""Objects from the `_target_` nodes of a config, which have no schema.

Every error message is one sentence that names the option.
"""

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from hydra._internal.utils import _locate
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig

from lightning_embed.config.values import plain
from lightning_embed.errors import ConfigError, LightningEmbedError, nearest


def instantiated(path: str, node: DictConfig, **arguments: Any) -> Any:
    """Build the object of a node.

    Args:
        path: path of the node in the config: optimizer, callback.evaluate ...
        node: a node with a `_target_`.
        arguments: further arguments, as objects.

    Raises:
        ConfigError: the class or function does not exist, lacks an option of the node, or rejects a value.
    """
    check_signature(path, node)
    with refusals_of(path):
        return instantiate(node, _convert_="object", **arguments)


@contextmanager
def refusals_of(path: str) -> Iterator[None]:
    """Turn any error that a component raises because of its options into a `ConfigError`.

    Raises:
        ConfigError: with the first sentence of the original error.
    """
    try:
        yield
    except LightningEmbedError:
        raise
    except InstantiationException as error:
        if isinstance(error.__cause__, LightningEmbedError):
            raise error.__cause__ from None
        raise ConfigError(f"{path}: {_sentence(error.__cause__ or error)}") from error
    except Exception as error:  # a component of another package may raise anything
        raise ConfigError(f"{path}: {_sentence(error)}") from error


def check_signature(path: str, node: DictConfig) -> None:
    """Refuse options that the class or function of a node lacks, and values that do not fit its annotations.

    Raises:
        ConfigError: naming the option.
    """
    options: dict[str, Any] = plain(node)
    target = options.get("_target_")
    try:
        called = _locate(str(target))  # hydra.utils.get_object also logs the error, in several lines
        parameters = inspect.signature(called).parameters
    except Exception as error:  # an import may fail in any way
        raise ConfigError(f"{path}._target_={target}: {_sentence(error.__cause__ or error)}") from error
    is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    hints = _hints(called)
    for key, value in options.items():
        if key.startswith("_"):
            continue
        if key not in parameters and not is_open:
            raise ConfigError(f"{path}.{key}: {target} has no such option. {nearest(key, parameters)}")
        if key in hints and value != parameters[key].default and not _fits(value, hints[key]):
            raise ConfigError(f"{path}.{key}={value}: {_expected(hints[key], value)}")


def _hints(called: Any) -> dict[str, Any]:
    try:
        return get_type_hints(called.__init__ if inspect.isclass(called) else called)
    except (NameError, TypeError, AttributeError):  # names that are imported only under TYPE_CHECKING
        return {}


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value fits a type hint; True for a hint that cannot be checked."""
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

    if _has_target(value):
        return True
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
    except (
        PydanticUserError,
        TypeError,
    ):  # a hint that pydantic does not support, or a type with its own configuration
        return True
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


def _has_target(value: Any) -> bool:
    """Whether a component stands in a value: an object of its own, which is built later."""
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_has_target, value.values()))
    return isinstance(value, list) and any(map(_has_target, value))


def _expected(hint: Any, value: Any) -> str:
    """The expected values in a sentence: the words of a choice, or the names of types."""
    if words := _words(hint):
        return f"no such choice. {nearest(str(value), words)}"
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    names = ["null" if part is type(None) else _name(part) for part in parts]
    return f"expected {' or '.join(dict.fromkeys(names))}."


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def _words(hint: Any) -> list[str]:
    """The choices of a Literal, also inside a Union."""
    if get_origin(hint) is Literal:
        return [str(word) for word in get_args(hint)]
    return list(dict.fromkeys(word for part in get_args(hint) for word in _words(part)))


def _sentence(error: BaseException) -> str:
    """The first sentence of an error, on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{text.split('. ')[0].rstrip('.')}."
