"""Schemas for Hydra, derived from the fields of registered classes and options classes, in its ConfigStore.

The class is the one place that names an option and gives its type and default. This is the only module that uses
Hydra's ConfigStore.
"""

import copyreg
import dataclasses
import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING as UNSET
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_embed import registry
from lightning_embed.config.help import help_page
from lightning_embed.config.options import MergeOptions, TrainOptions
from lightning_embed.config.plugins import Plugins, import_words
from lightning_embed.config.resolvers import register_resolvers
from lightning_embed.config.values import plain
from lightning_embed.data.mining_options import MiningOptions
from lightning_embed.data.options import DataOptions
from lightning_embed.data.probe_options import ProbeOptions
from lightning_embed.data.teacher_options import TeacherOptions
from lightning_embed.encoder.options import EncoderOptions
from lightning_embed.encoder.parameter_groups import ParameterGroups
from lightning_embed.errors import ConfigError
from lightning_embed.merge.diagnosis.options import DoctorOptions

# Launchers pickle the schemas, with their classes, for their workers. dataclasses compares its sentinels by identity,
# so they are pickled by name.
copyreg.pickle(type(MISSING), lambda _: "MISSING")
copyreg.pickle(dataclasses._FIELD_BASE, lambda mark: mark.name)  # type: ignore[attr-defined]


@cache
def conf_folder() -> Path:
    """The folder of the YAML files: `conf/` of the checkout, or of the installed package."""
    spec = importlib.util.find_spec("lightning_embed.conf")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


def register(doors: Plugins = Plugins.here) -> None:
    """Register all words and resolvers; publish one schema per registered class and per group of options. Once.

    Args:
        doors: where words may come from.

    Raises:
        PluginError: a file in `plugins/` cannot be imported.
        RegistryError: two classes register the same word.
    """
    _register(doors)


@cache
def _register(doors: Plugins) -> None:
    import_words(doors)
    register_resolvers()
    _publish()


def _publish() -> None:
    store = ConfigStore.instance()
    for room in registry.ROOMS:
        for entry in registry.entries(room):
            schema = twin(entry.cls, name=entry.name)
            store.store(entry.name, schema, group=f"{room}/schema")
            if not (conf_folder() / room / f"{entry.name}.yaml").exists():
                store.store(entry.name, schema, group=room)
    store.store("encoder", twin(EncoderOptions), group="encoder/schema")
    store.store("parameter_groups", twin(ParameterGroups), group="parameter_groups/schema")
    store.store("data", twin(DataOptions), group="data/schema")
    store.store("mining", twin(MiningOptions), group="mining/schema")
    store.store("teacher", twin(TeacherOptions), group="teacher/schema")
    store.store("probe", twin(ProbeOptions), group="probe/schema")
    store.store("doctor", twin(DoctorOptions), group="doctor/schema")
    store.store("train", twin(TrainOptions), group="schema")
    store.store("merge", twin(MergeOptions), group="schema")
    store.store(
        "lightning_embed",
        {"app_name": "lightning_embed", "header": "", "footer": "", "template": help_page(words)},
        group="hydra/help",
    )


def twin(cls: type[Any], name: str | None = None) -> type[Any]:
    """A mutable dataclass with the fields of a frozen one, which OmegaConf can check and override.

    Args:
        cls: the frozen dataclass.
        name: word under which the class is registered; None: not registered. It becomes the first field, `name`.
    """
    hints = get_type_hints(cls)
    own = [(f.name, _config_type(hints[f.name]), _config_default(f)) for f in fields(cls) if f.init]
    named = [("name", str, field(default=name))] if name else []
    return make_dataclass(cls.__name__, named + own)


def _config_type(hint: Any) -> Any:
    """Replace frozen dataclasses inside a type by their twins."""
    if get_origin(hint) in (dict, list):
        return get_origin(hint)[tuple(_config_type(part) for part in get_args(hint))]
    return twin(hint) if is_dataclass(hint) and isinstance(hint, type) else hint


def _config_default(item: "Field[Any]") -> Any:
    if item.default_factory is not MISSING:
        return field(default_factory=item.default_factory)
    return field(default=UNSET if item.default is MISSING else item.default)


def words(group: str) -> list[str]:
    """The words of a config group: YAML files and registered classes."""
    files = {path.stem for path in (conf_folder() / group).glob("*.yaml")}
    return sorted(files | (set(registry.names(group)) if group in registry.ROOMS else set()))


def built(room: str, options: Mapping[str, Any]) -> Any:
    """Build the class `options["name"]` of a room from the plain values of a file, where enums are words.

    Raises:
        RegistryError: unknown name.
        ConfigError: unknown option, or a value of another type.
    """
    name = str(options["name"])
    try:
        typed = OmegaConf.merge(OmegaConf.structured(twin(registry.get(room, name), name)), dict(options))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{room}={name}: {str(error).splitlines()[0]}.") from None
    return registry.build(room, plain(typed))
