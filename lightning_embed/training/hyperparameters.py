"""The parts of an `EmbeddingModule` as words and options, for its checkpoints, and back.

A checkpoint comes from anywhere, so that nothing in it may run code: names are looked up among classes that this
package has, or that the caller has imported. No module is imported by a name of the file, except our own losses.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, fields
from enum import Enum
from functools import partial
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, NoReturn, TypeVar

import torch
from torch.optim.lr_scheduler import LRScheduler

import lightning_embed.loss
from lightning_embed import registry
from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.parameter_groups import ParameterGroups
from lightning_embed.errors import CheckpointError, ConfigError
from lightning_embed.loss import Loss
from lightning_embed.training import lr_schedule
from lightning_embed.training import muon as muon  # its optimiser is found by name
from lightning_embed.types import Task

Words = Mapping[str, Any]
_Class = TypeVar("_Class")
_SCHEDULES = ("linear", "cosine", "wsd", "constant")
_PLAIN = (bool, int, float, str, type(None), torch.dtype)


@dataclass(frozen=True)
class Unknown:
    """A function of which a checkpoint has the name alone; calling it raises.

    Args:
        part: optimizer or scheduler.
        words: from the checkpoint.
    """

    part: str
    words: Words

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse.

        Raises:
            ConfigError: with the argument to give.
        """
        raise ConfigError(
            f"{self.part}: the checkpoint names {self.words.get('name')!r}, which it cannot build. To train on, give it: "
            f"EmbeddingModule.load_from_checkpoint(path, {self.part}=...)."
        )


def encoder_words(encoder: Encoder) -> Words:
    """The options that build the encoder, with its prompts and its length as they are now."""
    options = encoder.options
    path = Path(options.path)
    now = {
        "path": str(path.absolute()) if path.is_dir() else options.path,
        "prompts": {**encoder.prompts.texts},
        "max_length": encoder.tokenizer.max_length,
    }
    words: Words = _plain({**asdict(options), **now})
    return words


def loss_words(losses: Mapping[str, Loss]) -> Words:
    """The word and the options of the loss of each task, or dataset."""
    return {str(name): _of_loss(loss) for name, loss in losses.items()}


def function_words(function: Any) -> Words | None:
    """The name and the arguments of a `functools.partial`, or of a class; of other functions the name alone."""
    if function is None:
        return None
    if isinstance(function, Unknown):
        return function.words
    if not isinstance(function, partial):
        return {"name": _name(function)}
    if function.args or not _is_plain(function.keywords):
        return {"name": f"{_name(function.func)}(...)"}  # of what it holds no text can be made: never built again
    return {"name": _name(function.func), **_plain(function.keywords)}


def built_encoder(encoder: Encoder | Words) -> Encoder:
    """An encoder, from its words.

    Raises:
        ConfigError: the words would run code.
        CheckpointError: the base model is not where it was.
    """
    if not isinstance(encoder, Mapping):
        return encoder
    _refuse_code(encoder)
    try:
        return Encoder(_made(EncoderOptions, encoder))
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} The checkpoint has weights, and names the model for its tokenizer and configuration. To use "
            "another place: load_from_checkpoint(path, encoder=load(<directory>))."
        ) from error


def built_losses(losses: Mapping[Any, Loss | Words]) -> dict[str, Loss]:
    """The losses of each task, or dataset, from their words where they are words.

    Raises:
        ConfigError: a loss that is not imported.
    """
    built = {name: _built_loss(loss) if isinstance(loss, Mapping) else loss for name, loss in losses.items()}
    return {Task(name) if name in set(Task) else name: loss for name, loss in built.items()}


def built_groups(groups: ParameterGroups | Words | None) -> ParameterGroups:
    """The groups of parameters, from their options; None: of an earlier version, which had one."""
    if isinstance(groups, ParameterGroups):
        return groups
    built: ParameterGroups = _made(ParameterGroups, groups or {})
    return built


def built_optimizer(optimizer: Any) -> Any:
    """A function that makes an optimiser: of torch.optim, or of an imported class."""
    return _built("optimizer", optimizer, _optimizer_class)


def built_scheduler(scheduler: Any) -> Any:
    """A function that makes a scheduler: of `lightning_embed.training.lr_schedule`, or an imported class."""
    return _built("scheduler", scheduler, _scheduler_function)


def _built(part: str, given: Any, find: Callable[[str], Any]) -> Any:
    if not isinstance(given, Mapping):
        return given
    options = dict(given)
    found = find(str(options.pop("name", "")))
    return Unknown(part, given) if found is None else partial(found, **options)


def _optimizer_class(name: str) -> Any:
    return _imported(f"torch.optim.{name}" if "." not in name else name, torch.optim.Optimizer)


def _scheduler_function(name: str) -> Any:
    return getattr(lr_schedule, name) if name in _SCHEDULES else _imported(name, LRScheduler)


def _imported(path: str, kind: type[_Class]) -> type[_Class] | None:
    """A class of this kind in a module that is imported; None: there is none."""
    module, _, name = path.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) and issubclass(found, kind) else None


def _name(function: Any) -> str:
    """linear, AdamW; of others the path, with their module."""
    name = str(getattr(function, "__qualname__", type(function).__qualname__))
    if function is getattr(torch.optim, name, None) or function is getattr(lr_schedule, name, None):
        return name
    return f"{getattr(function, '__module__', '?')}.{name}"


def _of_loss(loss: Loss) -> Words:
    word = next((entry.name for entry in registry.entries("loss") if entry.cls is type(loss)), _name(type(loss)))
    options = {field.name: getattr(loss, field.name) for field in fields(loss) if field.init}  # type: ignore[arg-type]
    return {"name": word, **{key: _plain(value) for key, value in options.items()}}


def _built_loss(words: Words) -> Loss:
    name = str(words["name"])
    if name in {module.name for module in iter_modules(lightning_embed.loss.__path__)}:
        import_module(f"lightning_embed.loss.{name}")
    cls: Any = registry.get("loss", name) if name in registry.names("loss") else _imported(name, Loss)
    if cls is None:
        raise ConfigError(
            f"The checkpoint names the loss {name!r}, which is not imported. Import the file that has it first, or give "
            "load_from_checkpoint(path, losses=...)."
        )
    options = {key: _built_loss(value) if _is_loss(value) else value for key, value in words.items() if key != "name"}
    loss: Loss = _made(cls, options)
    return loss


def _made(cls: Any, options: Words) -> Any:
    """An object of a dataclass, with enums from their words.

    Raises:
        ConfigError: an option that the class does not have.
    """
    defaults = {each.name: _default(each) for each in fields(cls) if each.init}
    if unknown := sorted(options.keys() - defaults.keys()):
        raise ConfigError(
            f"The checkpoint gives {cls.__name__} the option {unknown[0]!r}, which this version does not have. Use the "
            "version that wrote it."
        )
    return cls(**{name: _with_enums(value, defaults[name]) for name, value in options.items()})


def _default(option: Field[Any]) -> Any:
    return option.default if option.default_factory is MISSING else option.default_factory()


def _with_enums(value: Any, default: Any) -> Any:
    """The value, or a list of values, of the enum that the default is of."""
    if isinstance(default, Enum):
        return type(default)(value)
    if isinstance(default, list) and default and isinstance(default[0], Enum):
        return [type(default[0])(item) for item in value]
    return value


def _is_loss(value: Any) -> bool:
    return isinstance(value, Mapping) and "name" in value


def _plain(value: Any) -> Any:
    """Texts, numbers, lists and dictionaries; losses as words, other objects as their names."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Loss):
        return _of_loss(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [_plain(item) for item in value]
    return value if isinstance(value, _PLAIN) else str(value)


def _is_plain(value: Any) -> bool:
    """Whether a checkpoint can give a value back as it is, tuples as lists."""
    if isinstance(value, (Mapping, list, tuple)):
        return all(map(_is_plain, value.values() if isinstance(value, Mapping) else value))
    return isinstance(value, _PLAIN)


def _refuse_code(words: Words) -> None:
    """Refuse options with which a model runs code that the caller did not ask for.

    Raises:
        ConfigError: code of the model's directory, or a class that is no configuration of peft.
    """
    if words.get("trust_remote_code"):
        raise ConfigError(
            "The checkpoint asks for the Python code of a model's directory, which no checkpoint may. If you have read "
            "it: load_from_checkpoint(path, encoder=load(<directory>, trust_remote_code=True))."
        )
    for target in _targets(words.get("peft")):
        module, _, name = str(target).rpartition(".")
        if module != "peft" or not name.endswith("Config"):
            raise ConfigError(
                f"The checkpoint names {target!r} in encoder.peft: expected a configuration of peft, such as "
                "peft.LoraConfig. Give load_from_checkpoint(path, encoder=...)."
            )


def _targets(value: Any) -> list[Any]:
    """Every `_target_` inside of options."""
    if isinstance(value, Mapping):
        own = [value["_target_"]] if "_target_" in value else []
        return own + [target for item in value.values() for target in _targets(item)]
    return [target for item in value for target in _targets(item)] if isinstance(value, list) else []
