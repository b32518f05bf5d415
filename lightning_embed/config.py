"""Options for Hydra: schemas derived from signatures, plugins loaded and published, and what a run is called.

The only user of Hydra's ConfigStore. A registered class, or an options class, is the one place where an option is
named, typed and defaulted; the schema that Hydra checks is made from it.
"""

import copyreg
import dataclasses
import importlib
import importlib.util
import json
import os
import pkgutil
import warnings
from collections.abc import Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass, make_dataclass
from functools import cache
from hashlib import blake2b
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import MISSING as UNSET
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_embed import registry
from lightning_embed.data.options import MiningOptions, ProbeOptions
from lightning_embed.encoder.options import EncoderOptions
from lightning_embed.errors import ConfigError, PluginError
from lightning_embed.manual import help_page
from lightning_embed.options import DataOptions, DoctorOptions, MergeOptions, TrainOptions

PLUGIN_GROUP = "lightning_embed.plugins"


# Launchers pickle the published schemas, classes and all, for their workers. The marks of dataclasses are known by
# identity there too, so they are pickled by name.
copyreg.pickle(type(MISSING), lambda _: "MISSING")
copyreg.pickle(dataclasses._FIELD_BASE, lambda mark: mark.name)  # type: ignore[attr-defined]


@cache
def conf_folder() -> Path:
    """Where the YAML files are: `conf/` of the checkout, or of the installed package."""
    spec = importlib.util.find_spec("lightning_embed.conf")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])


@cache
def register() -> None:
    """Import the rooms, `plugins/` and the entry points; publish one schema per registered class.

    Raises:
        PluginError: a file in `plugins/` cannot be imported.
        RegistryError: two owners of one word.
    """
    for room in ("loss", "sampler", "experts"):
        _import_all(f"lightning_embed.{room}")
    _import_plugins()
    _import_entry_points()
    _publish()


def _import_all(package: str) -> None:
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def _import_plugins() -> None:
    try:
        _import_all(PLUGIN_GROUP)
    except ConfigError:
        raise
    except Exception as error:  # a plugin may fail in any way
        file = _failing_file(error)
        raise PluginError(
            f"plugins/{file}: cannot be imported: {type(error).__name__}: {error}. Mend it or remove the file."
        ) from error


def _failing_file(error: BaseException) -> str:
    folder, trace, file = PLUGIN_GROUP.rpartition(".")[2], error.__traceback__, "?"
    if isinstance(error, SyntaxError) and error.filename:
        return Path(error.filename).name
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        file = path.name if path.parent.name == folder else file
        trace = trace.tb_next
    return file


def _import_entry_points() -> None:
    for point in entry_points(group=PLUGIN_GROUP):
        try:
            point.load()
        except ConfigError:
            raise
        except Exception as error:  # a broken package of somebody else must not stop this one
            warnings.warn(
                f"The plugin {point.name} ({point.value}) was skipped: {type(error).__name__}: {error}", stacklevel=2
            )


def _publish() -> None:
    store = ConfigStore.instance()
    for room in registry.ROOMS:
        for entry in registry.entries(room):
            schema = twin(entry.cls, name=entry.name)
            store.store(entry.name, schema, group=f"{room}/schema")
            if not (conf_folder() / room / f"{entry.name}.yaml").exists():
                store.store(entry.name, schema, group=room)
    store.store("encoder", twin(EncoderOptions), group="encoder/schema")
    store.store("data", twin(DataOptions), group="data/schema")
    store.store("mining", twin(MiningOptions), group="mining/schema")
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
    """A mutable dataclass with the fields of a frozen one: what OmegaConf can check and override.

    Args:
        cls: the frozen dataclass.
        name: if given, a first field `name` of that value: the word under which the class is registered.
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


TRAINED_BY = (
    "seed", "encoder", "data", "mining", "sampler", "experts", "retrieval_loss", "sts_loss", "label_loss", "optimizer", "scheduler",
    "max_grad_norm", "trainer", "sources", "base",
)  # fmt: skip
_NOT_TRAINED_BY = {
    "experts": {"only"},
    "data": {"num_workers", "pin_memory"},
    "trainer": {
        "accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps", "enable_checkpointing", "enable_progress_bar", "profiler",
        "val_check_interval", "check_val_every_n_epoch", "limit_val_batches", "num_sanity_val_steps", "benchmark",
        "enable_model_summary",
    },
}  # fmt: skip


def run_hash(config: DictConfig) -> str:
    """Eight letters that change with everything that changes the experts of a run, and with nothing else.

    Interpolations count as they are written: a folder that they resolve to may differ between machines. What they name in
    `let` counts too.
    """
    written: dict[str, Any] = OmegaConf.to_container(config, resolve=False)  # type: ignore[assignment]
    part: dict[str, Any] = {key: written[key] for key in ("recipe", "compare") if written.get(key)}
    if own := {k: v for k, v in (written.get("callback") or {}).items() if not _only_watches(v)}:
        part["callback"] = own
    for key in TRAINED_BY:
        if key not in config or OmegaConf.is_missing(config, key):
            continue
        node = written[key]
        part[key] = (
            {k: v for k, v in node.items() if k not in _NOT_TRAINED_BY.get(key, ())} if isinstance(node, dict) else node
        )
    text = json.dumps(part, default=str)
    if named := {name: value for name, value in (written.get("let") or {}).items() if f"${{let.{name}}}" in text}:
        part["let"] = named
    return digest(part)


def _only_watches(callback: Mapping[str, Any]) -> bool:
    """Whether a callback cannot change the training: ours, unless told to choose a step, and progress bars."""
    target = str(callback.get("_target_"))
    if callback.get("keep_best") or callback.get("patience") is not None:
        return False
    return target.startswith("lightning_embed.callback.") or target.endswith("ProgressBar")


def digest(value: Any) -> str:
    """Eight letters that stand for a plain value."""
    return blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=4).hexdigest()


JOB_VARIABLE = "LIGHTNING_EMBED_JOB"
"""Of the environment: the record of the job that this process was started for."""


def sweep_folder() -> Path | None:
    """The folder of the sweep that this process does a job of."""
    if JOB_VARIABLE in os.environ:
        return Path(os.environ[JOB_VARIABLE]).parents[1]
    is_sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return Path(HydraConfig.get().sweep.dir) if is_sweep else None


def _package_file(package: str, path: str) -> str:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(
            f"The package {package} is not installed: pip install 'lightning-embed[quickstart]', or choose another encoder."
        )
    return str(Path(spec.submodule_search_locations[0]) / path)


OmegaConf.register_new_resolver("run_hash", lambda *, _root_: run_hash(_root_), replace=True)
OmegaConf.register_new_resolver("package_file", _package_file, replace=True)
OmegaConf.register_new_resolver(
    "sweep_group", lambda own: own if (f := sweep_folder()) is None else f.name, replace=True
)


def words(group: str) -> list[str]:
    """The words of a config group: YAML files and registered classes."""
    files = {path.stem for path in (conf_folder() / group).glob("*.yaml")}
    return sorted(files | (set(registry.names(group)) if group in registry.ROOMS else set()))


def built(room: str, options: Mapping[str, Any]) -> Any:
    """Build `options["name"]` of a room from plain values, as a file gives them back: words become enums again.

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


def plain(node: Any, as_words: bool = False) -> Any:
    """A config node as plain Python values, interpolations resolved; `as_words`: enums as the words typed, for files."""
    if not isinstance(node, (DictConfig, ListConfig)):
        return node
    return OmegaConf.to_container(node, resolve=True, enum_to_str=as_words)


def told(cfg: DictConfig) -> dict[str, Any]:
    """The whole config for files, pages and loggers. What a logger gets from the environment, like a key, is not told."""
    found: dict[str, Any] = plain(cfg, as_words=True)
    for name, raw in OmegaConf.to_container(cfg.get("logger") or OmegaConf.create({}), resolve=False).items():  # type: ignore[union-attr]
        hidden = [key for key, value in raw.items() if isinstance(value, str) and "oc.env:" in value]
        found["logger"][name] |= dict.fromkeys(hidden, "from the environment")
    return found


def build_options(cls: type[Any], node: Mapping[str, Any]) -> Any:
    """Build an options class (frozen dataclasses inside included) from a config node."""
    hints = get_type_hints(cls)
    values = {}
    for item in fields(cls):
        value = node[item.name]
        args = get_args(hints[item.name])
        if get_origin(hints[item.name]) is dict and is_dataclass(args[1]):
            value = {key: build_options(args[1], inner) for key, inner in value.items()}  # type: ignore[arg-type]
        values[item.name] = plain(value)
    return cls(**values)
