"""Hashes that name folders and caches, computed from words, options and the content of files.

Edited rows or replaced weights change a name; a moved module of ours, a moved data folder or a different machine does
not. A class of another package counts by the path that the user wrote, because two packages may use one class name.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_embed.config import local_code
from lightning_embed.config.content import PLACES, dataset_content, files_content, in_words, model_content, source_paths
from lightning_embed.config.values import class_name, plain
from lightning_embed.data.options import TRAINING_ONLY, Decontaminate
from lightning_embed.errors import ConfigError
from lightning_embed.experts import Expert
from lightning_embed.merge import Source
from lightning_embed.runtime import peers
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.storage.checksum import digest, directory_digest
from lightning_embed.storage.names import visible
from lightning_embed.types import Task

TRAINED_BY = (
    "seed", "encoder", "data", "mining", "teacher", "sampler", "experts", "retrieval_loss", "sts_loss", "label_loss", "optimizer",
    "parameter_groups", "scheduler", "max_grad_norm", "trainer", "sources", "base",
)  # fmt: skip
_NOT_TRAINED_BY = {
    "experts": {"only", "jobs", "retries"},
    "data": {"num_workers", "pin_memory", "root"},
    "trainer": {
        "accelerator", "devices", "num_nodes", "strategy", "log_every_n_steps", "enable_checkpointing",
        "enable_progress_bar", "profiler", "val_check_interval", "check_val_every_n_epoch", "limit_val_batches",
        "num_sanity_val_steps", "benchmark", "enable_model_summary",
    },
}  # fmt: skip
_MEASURES_DEV = {"val_check_interval", "check_val_every_n_epoch", "limit_val_batches"}  # which may end a training
_OUR_CALLBACKS = "lightning_embed.callback."
_OF_THIS_PLACE = ("${oc.env:", "${now:")  # resolvers whose value is of this machine, or of this moment
_known_hash: ContextVar[str | None] = ContextVar("known_hash", default=None)


@dataclass(frozen=True)
class Identity:
    """Everything on which the experts of a run depend.

    Args:
        options: words and options of the config.
        content: digests of the files that they name, by encoder, data.<dataset>.<part>, sources.<number>.<name> ...
    """

    options: Mapping[str, Any]
    content: Mapping[str, str]

    @cached_property
    def hash(self) -> str:
        """Hash of the options and the content: eight letters, the end of the name of the run's folder."""
        return digest([self.options, self.content])

    @cached_property
    def options_hash(self) -> str:
        """Hash of the options alone."""
        return digest(self.options)

    def changed_since(self, content: Mapping[str, str]) -> list[str]:
        """The readable names of files whose content differs from that of an earlier run with these options."""
        return [
            in_words(name) for name in sorted({*content, *self.content}) if content.get(name) != self.content.get(name)
        ]


def run_identity(config: DictConfig) -> Identity:
    """The identity of a run, with the content of its files as it is now. What cannot be read counts as absent."""
    with resolved_hash(""):
        options = _hashed_options(config)
    written: Any = OmegaConf.to_container(config, resolve=False)
    content: dict[str, str] = {}
    if encoder := options.get("encoder"):
        content["encoder"] = model_content(str(encoder.pop("path", None)), encoder.pop("revision", None))
    if (existing := options.get("experts", {}).get("existing")) is not None:
        content["experts.existing"] = model_content(existing, None)
        options["experts"]["existing"] = True
    if (stages := options.get("experts", {}).get("stages")) is not None:
        options["experts"]["stages"] = list(stages.items())  # their order counts
    if mining := options.get("mining"):
        content |= _mining_content(mining)
    content |= _teacher_content(options)
    if (base := options.get("base")) is not None:
        content["base"] = model_content(base, None)
        options["base"] = True
    if (recipe := options.get("recipe")) is not None:
        content["recipe"] = files_content([Path(recipe)])
        options["recipe"] = True
    if sources := source_paths(options.get("sources") or ()):
        content |= {
            f"sources.{n}.{visible(path.name)}": model_content(str(path), None) for n, path in enumerate(sources)
        }
        options["sources"] = [path.name for path in sources]
    if data := options.get("data"):
        parts = ("train", "dev", "test") if _drops(data) else ("train", "dev")
        for name, dataset in data["datasets"].items():
            content |= dataset_content(name, dataset, parts)
        data["datasets"] = _without_places(data["datasets"])
    content |= local_code.content(options)
    return Identity({key: _as_written(value, written.get(key)) for key, value in options.items()}, content)


def run_hash(config: DictConfig) -> str:
    """Eight letters that stand for the experts of a run: the end of its folder's name."""
    known = _known_hash.get()
    return run_identity(config).hash if known is None else known


@contextmanager
def resolved_hash(value: str) -> Iterator[None]:
    """Let ${run_hash:} be `value` inside, so that a config resolves without reading files."""
    token = _known_hash.set(value)
    try:
        yield
    finally:
        _known_hash.reset(token)


def freeze(config: DictConfig) -> Identity:
    """Fix the folder and the group of a run, so that a file that changes later cannot change them on the way.

    Raises:
        ConfigError: the first rank of the run found other files.
    """
    identity = run_identity(config)
    with resolved_hash(identity.hash):
        for key in ("name", "out", "group"):
            config[key] = str(config[key])
    if not peers.agree("identity", identity.hash):
        raise ConfigError("Two ranks found different data, bases or options: start the run again.")
    return identity


def evaluation_hash(config: DictConfig) -> str:
    """Hash of the evaluation and its sets, without the seed, which draws dev sets: recipes are compared over seeds."""
    return digest(_evaluated(config, ("dev", "test")))


def job_hash(command: str, config: DictConfig) -> str:
    """Hash of a job of a sweep: its config, the content of its files, and the version of this package."""
    from lightning_embed import __version__

    identity, resolved = run_identity(config), plain(config, as_words=True)
    left_out = (*TRAINED_BY, "group", "part", "recipe", "plugins", "mirror")
    others = {key: value for key, value in resolved.items() if key not in left_out}
    how = {
        key: {name: resolved[key].get(name) for name in sorted(names)}
        for key, names in _NOT_TRAINED_BY.items()
        if resolved.get(key)
    }
    how.get("data", {}).pop("root", None)
    code = [found] if (found := local_code.content(others)) else []
    return digest([command, __version__, identity.hash, evaluation_hash(config), _without_modules(others), how, *code])


def sweep_hash(arguments: Iterable[str]) -> str:
    """Hash of the command line of a sweep, without the arguments that only decide how its jobs are started."""
    how = (
        "hydra/launcher",
        "hydra.launcher",
        "hydra.sweeper.n_trials",
        "hydra.sweeper.n_jobs",
        "-m",
        "--multirun",
        "mirror=",
    )
    return digest(sorted(argument for argument in arguments if not argument.startswith(how)))


def models_hash(sources: Sequence[Source], base: Path | None) -> str:
    """Hash of the models of a merge: names, weights and sizes, in their order."""
    return digest(_models(sources, base))


def merge_hash(config: DictConfig, sources: Sequence[Source], base: Path | None, data: Sequence[str]) -> str:
    """Hash of a merge.

    Args:
        config: config of the run.
        sources: models to merge, in their order.
        base: model that they started from.
        data: `probe_hash` and `dev_hash`, where the strategy uses a probe or dev scores.
    """
    strategy = plain(config.merge, as_words=True)
    if strategy.get("allow") is None:  # without it, merges of earlier versions keep their names
        strategy.pop("allow", None)
    options = [strategy, config.seed, str(config.out_dtype)]
    if config.vocabulary is not None:
        options.append(str(config.vocabulary))
    code = [found] if (found := local_code.content({"merge": strategy})) else []
    return digest([options, _models(sources, base), *data, *code])


def probe_hash(config: DictConfig) -> str:
    """Hash of the losses and the rows of a merge's probe."""
    keys = ("probe", "mining", "teacher", "retrieval_loss", "sts_loss", "label_loss")
    options = {key: plain(config[key], as_words=True) for key in keys if key in config}
    if mining := options.get("mining"):
        options |= _mining_content(mining)
    options |= _teacher_content(options)
    data = plain(config.data, as_words=True)
    datasets = data["datasets"]
    content: dict[str, Any] = {"decontaminate": data["decontaminate"]} if _drops(data) else {}
    for name, each in datasets.items():
        content |= dataset_content(name, each, ("train", "dev", "test") if _drops(data) else ("train", "dev"))
        if f"data.{name}.dev" in content:  # whether there is one decides which train rows are left
            content[f"data.{name}.dev"] = True
    return digest([options, _without_places(datasets), content])


def dev_hash(config: DictConfig) -> str:
    """Hash of the dev sets, their evaluation and the optimized metric."""
    return digest([_evaluated(config, ("dev",)), config.optimized_metric])


def training_seed(config: DictConfig, expert: Expert) -> int:
    """The seed of an expert's row order, sampled texts and dropout."""
    return int(config.seed) if expert.seed == 0 else derive_seed(config.seed, "expert", expert.seed)


def _hashed_options(config: DictConfig) -> dict[str, Any]:
    """Resolved options by key of the root, without what cannot change an expert."""
    found: dict[str, Any] = {}
    for key in (*TRAINED_BY, "recipe", "compare", "callback"):
        if (
            key not in config
            or OmegaConf.is_missing(config, key)
            or (value := _resolved(config, key)) in (None, {}, [])
        ):
            continue
        if key == "callback":
            value = {name: node for name, node in value.items() if not _only_watches(node)}
        if value not in ({}, []):
            found[key] = _without_modules(value)
    for key, names in _NOT_TRAINED_BY.items():
        left_out = names - _MEASURES_DEV if "callback" in found else names
        if key in found:
            found[key] = {name: node for name, node in found[key].items() if name not in left_out}
    return found


def _mining_content(options: dict[str, Any]) -> dict[str, str]:
    """The content of the models of mining, instead of their places in the options."""
    named = {name: options[name] for name in ("model", "cross_encoder") if options.get(name) is not None}
    options.update(dict.fromkeys(named, True))
    return {f"mining.{name}": model_content(path, None) for name, path in named.items()}


def _teacher_content(options: dict[str, Any]) -> dict[str, str]:
    """The content of the teacher, instead of its place in the options; without one, these do not have its group."""
    if not (teacher := options.get("teacher")):
        return {}
    if (path := teacher.pop("path", None)) is None:  # runs of earlier versions keep their names
        options.pop("teacher")
        return {}
    return {"teacher.content": model_content(str(path), teacher.pop("revision", None))}


def _resolved(config: DictConfig, key: str) -> Any:
    try:
        return _with_words(plain(config[key]))
    except OmegaConfBaseException:  # it refers to a missing value, which validate_config reports
        node = config._get_node(key)
        return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else str(node)


class _Word(str):
    """The word of an enum."""


def _with_words(value: Any) -> Any:
    """Plain values, with enums as words."""
    if isinstance(value, dict):
        return {key: _with_words(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_words(item) for item in value]
    return _Word(value.name) if isinstance(value, Enum) else value


def _as_written(value: Any, written: Any) -> Any:
    """`value`, with texts from the environment or the clock as they are written in the config.

    Those are places, such as a folder of this machine. A number or the word of an enum from there changes the training.
    """
    if type(value) is str and isinstance(written, str) and any(source in written for source in _OF_THIS_PLACE):
        return written
    if isinstance(value, dict) and isinstance(written, Mapping):
        return {key: _as_written(item, written.get(key)) for key, item in value.items()}
    if isinstance(value, list) and isinstance(written, list) and len(value) == len(written):
        return [_as_written(*pair) for pair in zip(value, written, strict=True)]
    return value


def _without_places(datasets: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Names and options of datasets in their order, which samplers use, without the places of their files."""
    return [[name, _own_options(options, PLACES)] for name, options in datasets.items()]


def _own_options(options: Mapping[str, Any], without: Collection[str]) -> dict[str, Any]:
    """The options of a dataset except those in `without`."""
    return {name: value for name, value in options.items() if name not in without}


def _drops(data: Mapping[str, Any]) -> bool:
    """Whether the train rows depend on the tests: those with a text of a test are left out."""
    given = [data.get("decontaminate"), *(dataset.get("decontaminate") for dataset in data["datasets"].values())]
    return Decontaminate.drop.name in given


def _only_watches(callback: Any) -> bool:
    """Whether a callback cannot change the training: one of ours that chooses no step, or a progress bar."""
    if not isinstance(callback, Mapping) or callback.get("keep_best") or callback.get("patience") is not None:
        return not callback
    target = str(callback.get("_target_"))
    return target.startswith(_OUR_CALLBACKS) or target.endswith("ProgressBar")


def _without_modules(value: Any) -> Any:
    """The value, with a `_target_` in this package shortened to the name of its class or function."""
    if isinstance(value, dict):
        return {
            key: class_name(item)
            if key == "_target_" and str(item).startswith("lightning_embed.")
            else _without_modules(item)
            for key, item in value.items()
        }
    return [_without_modules(item) for item in value] if isinstance(value, list) else value


def _models(sources: Sequence[Source], base: Path | None) -> list[Any]:
    named = [(source.name, directory_digest(source.path), source.size) for source in sources]
    return [named, None if base is None else directory_digest(base)]


def _evaluated(config: DictConfig, parts: Sequence[str]) -> list[Any]:
    """The evaluation options, and the options and content of the sets that it measures on."""
    tests: dict[str, Any] = {}
    for name, options in plain(config.data.datasets, as_words=True).items():
        content = dataset_content(name, options, parts)
        if f"data.{name}.dev" not in content or options["task"] == Task.classification or options.get("test_share"):
            # dev or test rows are drawn from it, a classifier learns from it
            content |= dataset_content(name, options, ("train",))
        tests[name] = [_own_options(options, (*TRAINING_ONLY, *PLACES)), content]
    return [_without_modules(_not_float32(plain(config.evaluation, as_words=True))), tests]


def _not_float32(evaluation: dict[str, Any]) -> dict[str, Any]:
    """The options without the default dtype, so that results of earlier versions are still those of their evaluation."""
    kept = {key: value for key, value in evaluation.items() if (key, value) != ("dtype", "float32")}
    return {key: _not_float32(value) if key == "local" and value else value for key, value in kept.items()}
