"""Validation of a composed config: all problems in one message, before anything heavy is imported."""

import re
from collections.abc import Callable, Iterator
from typing import Any, get_origin

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, OmegaConfBaseException

from lightning_embed import registry
from lightning_embed.config.expert_options import with_options
from lightning_embed.config.identity import resolved_hash
from lightning_embed.config.numbers import bad_numbers
from lightning_embed.config.plugins import Plugins
from lightning_embed.config.queries import has_tests, num_ranks
from lightning_embed.config.trainer_options import callback_problems, trainer_problems
from lightning_embed.config.values import build_options, class_name, plain
from lightning_embed.config.words import own_loss
from lightning_embed.data.mining_options import MiningOptions
from lightning_embed.data.options import DataOptions, check_divisible
from lightning_embed.data.probe_options import ProbeOptions
from lightning_embed.data.teacher_options import TeacherOptions
from lightning_embed.encoder.export import check_export
from lightning_embed.encoder.options import FLOAT16_IN_TRAINING, Dtype, EncoderOptions
from lightning_embed.encoder.parameter_groups import ParameterGroups
from lightning_embed.errors import ConfigError, LightningEmbedError, nearest
from lightning_embed.evaluation.metrics import parse_metrics
from lightning_embed.experts import Jobs
from lightning_embed.experts.stage import Stage
from lightning_embed.loss.choice import check_losses
from lightning_embed.merge.diagnosis.options import DoctorOptions
from lightning_embed.storage import hub
from lightning_embed.storage.names import check_name
from lightning_embed.types import Task

_REGISTERED = {
    "sampler": ("sampler",),
    "experts": ("experts",),
    "loss": ("retrieval_loss", "sts_loss", "label_loss"),
    "merge": ("merge",),
}
_ROOT = re.compile(r"\$\{(data|\.+)\.?root\}")  # as in conf/data; the dots of a relative reference
_IN_RECIPE = ("sources", "base", "sizes", "merge", "seed", "out_dtype", "vocabulary", "probe")


def validate_config(
    config: DictConfig,
    reference: DictConfig,
    added: set[str],
    multirun: bool = False,
    given: frozenset[str] = frozenset(),
) -> None:
    """Refuse, in one message, all unknown keys, invalid values and impossible combinations.

    Args:
        config: the composed config.
        reference: composed from the same groups, without an experiment and without overrides of values.
        added: keys that the user added by +key=value.
        multirun: whether the config is of a job of a sweep.
        given: keys on the command line.

    Raises:
        ConfigError: with one line per problem.
    """
    with resolved_hash(""):
        absent: dict[str, str] = {}  # by reason: what refers to a broken reference is broken for the same one
        for problem in _missing(config):
            absent.setdefault(problem.partition(": ")[2], problem)
        problems = [*absent.values(), *_without_root(config), *_unknown(config, reference, added)]
    if not problems:
        problems = bad_numbers(config)
    if not problems:
        problems = [
            *_doors(config, given),
            *_inputs(config, given),
            *_impossible(config, multirun),
            *_unbuildable(config),
        ]
    if problems:
        raise ConfigError("\n".join(problems))


def _without_root(config: DictConfig) -> Iterator[str]:
    """A root that paths refer to and that is not given."""
    if config.data.get("root", "") is None and _refers_to_root(OmegaConf.to_container(config, resolve=False)):
        yield "data.root is missing: give it as data.root=..."


def _refers_to_root(value: Any) -> bool:
    if isinstance(value, (dict, list)):
        return any(map(_refers_to_root, value.values() if isinstance(value, dict) else value))
    return isinstance(value, str) and _ROOT.search(value) is not None


def _missing(node: Any, path: str = "") -> Iterator[str]:
    for key in map(str, node) if isinstance(node, DictConfig) else ():
        full = f"{path}.{key}" if path else key
        if OmegaConf.is_missing(node, key):
            yield f"{full} is missing: give it as {full}=..."
        elif not OmegaConf.is_interpolation(node, key):
            yield from _missing(node[key], full)
        else:
            yield from _unresolved(node, key, full)


def _unresolved(node: DictConfig, key: str, full: str) -> Iterator[str]:
    """An interpolation that cannot be resolved; a missing value that it refers to is reported where it is missing."""
    try:
        node[key]
    except InterpolationToMissingValueError:
        return
    except OmegaConfBaseException as error:
        written = OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[index, call-overload]
        cause = error.__cause__ if isinstance(error.__cause__, LightningEmbedError) else error
        yield f"{full}={written}: {str(cause).splitlines()[0].rstrip('.')}."


def _unknown(config: Any, reference: Any, added: set[str], path: str = "") -> Iterator[str]:
    """Unknown keys and wrong types in plain YAML groups (Trainer, optimisers, loggers ...), which have no schema."""
    known = set(map(str, reference))  # `in` of a DictConfig denies missing values
    for key in map(str, config):
        full = f"{path}.{key}" if path else key
        if full in added or OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
            continue
        if key not in known:
            if full.startswith("experiment."):
                yield f"{full}: begin the experiment's file with the line '# @package _global_'."
            elif not _may_be_new(config[key], reference, full, added):
                yield f"{full}: no such option. {nearest(key, known)}"
        elif OmegaConf.is_missing(reference, key) or OmegaConf.is_interpolation(reference, key):
            continue
        elif isinstance(config[key], DictConfig) and isinstance(reference[key], DictConfig):
            yield from _unknown(config[key], reference[key], added, full)
        elif config[key] is None and isinstance(reference[key], DictConfig) and "_target_" in reference[key]:
            yield f"{full} cannot be null: remove it by ~{full}."
        elif _is_number(reference[key]) and isinstance(config[key], str) and config[key] != "auto":
            yield f"{full} must be a number like {reference[key]}, got {config[key]!r}."


def _may_be_new(value: Any, parent: DictConfig, full: str, added: set[str]) -> bool:
    """Whether a key may be new: in a dictionary (datasets, prompts, columns), of a component, or added by a +."""
    if get_origin(parent._metadata.ref_type) is dict or any(name.startswith(f"{full}.") for name in added):
        return True
    return isinstance(value, DictConfig) and "_target_" in value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _doors(config: DictConfig, given: frozenset[str]) -> Iterator[str]:
    """Words are imported before a file of options is read."""
    if config.plugins is not Plugins.here and "plugins" not in given:
        yield f"plugins={config.plugins}: expected on the command line, got it in a file. Leave it out there."


def _inputs(config: DictConfig, given: frozenset[str]) -> Iterator[str]:
    """Problems of the inputs of a merge: it needs sources, a recipe, or runs to compare."""
    if "recipe" not in config:
        return
    if config.recipe is None and not config.sources and not config.compare:
        yield "sources is missing: give it as sources=[...], or repeat a merge by recipe=<its merge.json>."
    if config.compare and (config.recipe is not None or config.sources):
        yield "compare=[...] shows finished runs and merges nothing: remove sources and recipe."
    doctor_probes = config.doctor.points or config.doctor.grid  # a recipe does not contain the probe of the doctor
    in_recipe = [key for key in _IN_RECIPE if key != "probe" or not doctor_probes]
    conflicting = [key for key in in_recipe if any(f"{name}.".startswith(f"{key}.") for name in given)]
    if config.recipe is not None and conflicting:
        yield f"recipe={config.recipe} contains {', '.join(conflicting)} already: give one or the other."


def _impossible(config: DictConfig, multirun: bool) -> Iterator[str]:
    yield from _refusal(check_name, "name", str(config.name))
    known = [f"dev/{key}" for key in ("mean", "retrieval", "sts", "classification", "clustering")]
    for option, metric in _targets(config):
        if metric not in known:
            why = "test scores may not choose" if metric.startswith("test") else "no such metric"
            yield f"{option}={metric}: {why}. Use {', '.join(known)}."
    for option, chooser in _choosers(config):
        if chooser.get("patience") is not None and config.experts.snapshots > 1:
            yield (
                f"{option}.patience={chooser.patience} may stop a training before all experts.snapshots="
                f"{config.experts.snapshots}, which are taken at equal intervals: use one of them."
            )
    is_off = class_name(config.evaluation._target_) == "Nothing"
    if config.ensemble and (is_off or not has_tests(config)):
        yield "ensemble=true needs an evaluation: give data= and evaluation=, or remove it."
    if "trainer" in config:
        limits = [config.trainer.max_steps, -1 if config.trainer.max_epochs is None else config.trainer.max_epochs]
        if limits[0] is None:
            yield "trainer.max_steps=null: give a number from 1, or -1 for no limit."
        elif limits == [-1, -1]:
            yield "trainer.max_steps and trainer.max_epochs are both -1: the training would never end. Set one of them."
        elif 0 in limits or min(limits) < -1:
            yield f"trainer.max_steps={limits[0]} and max_epochs={limits[1]}: give numbers from 1, or -1 for no limit."
        interval = config.trainer.get("val_check_interval")
        if _is_number(interval) and not interval > 0:
            yield f"trainer.val_check_interval must be positive, got {interval}: give steps, or a share of an epoch."
        if config.encoder.get("dtype") == Dtype.float16:
            yield FLOAT16_IN_TRAINING
        yield from trainer_problems(config.trainer)
        yield from callback_problems(config.get("callback"), config.trainer)
        for key in ("step_memory", "checkpoint_minutes", "grace_seconds"):
            if not config[key] >= 0:
                yield f"{key} must be at least 0, got {config[key]}."
        if config.max_grad_norm is not None and not config.max_grad_norm > 0:
            yield f"max_grad_norm must be positive or null, got {config.max_grad_norm}."
        share = config.scheduler.get("warmup_share", 0.0)
        if share is None or not 0 <= share <= 1:
            yield f"scheduler.warmup_share must be a share in [0, 1], got {share}."
    if config.push_to_hub is not None:
        yield from _pushing(config, multirun)
    yield from _refusal(check_export, config.export)
    if multirun and OmegaConf.select(config, "experts.jobs") == Jobs.launcher:
        yield "experts.jobs=launcher with -m: a sweep starts jobs itself. Leave out -m, or give experts.only=<names> instead."
    word = config.merge.name
    if word == "none" and not config.measure_sources:
        yield "measure_sources=false with merge=none would evaluate the base alone: remove one of them."
    if word != "none" and registry.get("merge", word).needs_scores and is_off:
        yield f"merge={word} chooses by dev scores, and evaluation=none gives no scores. Use evaluation=local."
    ranks = num_ranks(config)
    roles, tasks, names = ("query", "document"), list(map(str, Task)), list(map(str, config.data.datasets))
    for prompt in map(str, config.encoder.prompts if "encoder" in config else ()):
        owner = next((prompt.removesuffix(f"-{r}") for r in roles if prompt.endswith(f"-{r}")), prompt)
        known = [*roles, *tasks, *names, *config.evaluation.get("tasks", [])]
        if owner not in known and not config.evaluation.get("benchmark"):  # its tasks are known only to mteb
            yield f"encoder.prompts.{prompt}: no role, task or dataset of that name. {nearest(owner, known)}"
    for name, options in config.data.datasets.items():
        yield from _refusal(check_divisible, name, options.batch_size, ranks or 1)


def _pushing(config: DictConfig, multirun: bool) -> Iterator[str]:
    name = config.push_to_hub
    if multirun:
        yield f"push_to_hub={name} in a sweep: every job would push to it. Push the chosen model by its own command."
    if "experts" in config and config.experts.only is not None:
        only = config.experts.only
        yield f"push_to_hub={name} with experts.only={only}: the command that merges pushes the model."
    yield from _refusal(hub.validate_push, name)


def _targets(config: DictConfig) -> Iterator[tuple[str, str]]:
    """Options that name the metric of a choice, and their values."""
    yield "optimized_metric", config.optimized_metric
    for option, chooser in _choosers(config):
        yield f"{option}.metric", str(chooser.get("metric", "dev/mean"))


def _choosers(config: DictConfig) -> Iterator[tuple[str, DictConfig]]:
    """Callbacks that may choose the step at which an expert is exported."""
    for name, callback in (config.get("callback") or {}).items():
        if class_name(callback.get("_target_")) == "WhileTraining":
            yield f"callback.{name}", callback


def _unbuildable(config: DictConfig) -> Iterator[str]:
    """Values that the classes reject, found by building each class once."""
    for room, keys in _REGISTERED.items():
        for key in keys:
            node = config.get(key)
            if node is not None and node.name != "none":
                yield from _refusal(registry.build, room, plain(node))
    if "encoder" in config:
        yield from _refusal(build_options, EncoderOptions, config.encoder)
        yield from _refusal(build_options, ParameterGroups, config.parameter_groups)
    if "mining" in config:
        yield from _refusal(build_options, MiningOptions, config.mining)
        for name in config.mining.datasets:
            if name not in config.data.datasets:
                yield f"mining.datasets: no dataset {name!r}. {nearest(name, map(str, config.data.datasets))}"
            elif config.data.datasets[name].task != Task.retrieval:
                task = config.data.datasets[name].task
                yield f"mining.datasets: only queries have hard negatives, and {name} is {task}."
    if "teacher" in config:
        yield from _refusal(build_options, TeacherOptions, config.teacher)
    yield from _refusal(parse_metrics, config.evaluation.get("metrics"))
    yield from _refusal(build_options, DoctorOptions, config.doctor)
    yield from _refusal(build_options, ProbeOptions, config.probe)
    probed = [
        o for name, o in config.data.datasets.items() if name in (config.probe.datasets or [name]) and o.in_domain
    ]
    groups = {options.group or str(options.task) for options in probed}
    for task in config.probe.task_shares if config.data.datasets else ():
        if task not in groups:
            yield f"probe.task_shares.{task}: no dataset trains {task}. {nearest(task, groups)}"
    for name in config.probe.datasets or ():
        if name not in config.data.datasets:
            yield f"probe.datasets: no dataset {name!r}. {nearest(name, map(str, config.data.datasets))}"
    yield from _refusal(build_options, DataOptions, config.data)
    for name, options in config.data.datasets.items():
        if options.loss is not None:
            yield from _refusal(_check_own_loss, str(name), options)

    yield from _stages(config)


def _stages(config: DictConfig) -> Iterator[str]:
    """Stages of a training with options that do not exist, or that the classes reject."""
    stages = plain(config.experts.stages) if "experts" in config else {}
    for name, given in stages.items():
        try:
            stage, path = Stage.of(str(name), given), f"experts.stages.{name}"
            own = with_options(config, stage.options, stage.datasets or list(config.data.datasets), path)
        except (ConfigError, OmegaConfBaseException) as error:  # a stage without its config has no further problems
            yield str(error).splitlines()[0] if isinstance(error, OmegaConfBaseException) else str(error)
            continue
        for room, keys in _REGISTERED.items():
            for key in keys:
                if key in stage.options:
                    yield from (
                        f"{path}.{key}: {problem}" for problem in _refusal(registry.build, room, plain(own[key]))
                    )
        yield from _refusal(build_options, ParameterGroups, own.parameter_groups)
        for dataset, options in own.data.datasets.items():
            yield from _refusal(check_divisible, f"{path}, {dataset}", options.batch_size, num_ranks(config) or 1)


def _check_own_loss(name: str, options: DictConfig) -> None:
    loss = registry.build("loss", own_loss(name, options.loss))
    check_losses({name: loss}, {name: options.task})


def _refusal(attempt: Callable[..., object], *arguments: Any) -> Iterator[str]:
    try:
        attempt(*arguments)
    except ConfigError as error:
        yield str(error)
