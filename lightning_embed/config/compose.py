"""Checks of a command line: its config is composed before Hydra runs (0.3 s) and validated.

Hydra's own messages name neither the nearest word nor the file; these are one sentence per mistake.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError

from lightning_embed.config import schema
from lightning_embed.config.queries import measures_dev
from lightning_embed.config.sweep_context import is_search
from lightning_embed.config.validate import validate_config
from lightning_embed.errors import ConfigError, nearest

_SEARCHPATH = "hydra.searchpath"
# groups with one schema each
_OPTIONS = ("encoder", "parameter_groups", "data", "mining", "teacher", "probe", "doctor")
_EXTRAS = {"hydra/launcher": "launchers", "hydra/sweeper": "optuna"}


def check_command(
    name: str,
    overrides: Sequence[str],
    config_dir: str | None = None,
    multirun: bool = False,
    remaining: Callable[[DictConfig, list[Override]], list[list[str]] | None] = lambda *_: None,
) -> list[Override]:
    """Compose and check the config of a command line; for a sweep, with each value of each override once.

    Args:
        name: of the command's config.
        overrides: of the command line.
        config_dir: its --config-dir.
        multirun: whether it is a sweep.
        remaining: the jobs of a sweep that are still to be done, as their overrides: of them alone, values are checked.
            Its arguments are the node `hydra` and all overrides; None: all jobs.

    Returns:
        The overrides, without those of Hydra itself; for a sweep, also those in the file of its sweeper.

    Raises:
        ConfigError: with one sentence per mistake, and the nearest words.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(schema.conf_folder())):
        given = _parsed(overrides)
        searchpath = _searchpath(config_dir, given)
        own = [override for override in given if not override.key_or_group.startswith("hydra")]
        of_hydra = [each for each in given if each not in own and each.key_or_group != _SEARCHPATH]
        sweep = _composed(name, of_hydra, [], searchpath).hydra if multirun else None
        if sweep is not None:
            own = [*_of_sweeper(sweep.sweeper, {override.get_key_element() for override in own}), *own]
        left = None if sweep is None else remaining(sweep, own)
        for job in _jobs(own, left):
            _check_job(name, job, searchpath, sweep)
    return own


def _searchpath(config_dir: str | None, given: Sequence[Override]) -> list[str]:
    """The override of further places of configs: that of --config-dir, and those of the command line."""
    places = [f"file://{config_dir}"] if config_dir else []
    for override in given:
        if override.key_or_group == _SEARCHPATH:
            value = override.value()
            places += map(str, value if isinstance(value, list) else [value])
    return [f"{_SEARCHPATH}=[{','.join(map(in_quotes, places))}]"] if places else []


def in_quotes(text: str) -> str:
    """A text as a value of an override, whatever characters it has."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _of_sweeper(sweeper: DictConfig, taken: Collection[str]) -> list[Override]:
    """The overrides in a sweeper's file, hydra.sweeper.params, except those on the command line."""
    params = OmegaConf.select(sweeper, "params") or {}
    parsed = _parsed([f"{key}={value}" for key, value in params.items()])
    return [override for override in parsed if override.get_key_element() not in taken]


def _parsed(overrides: Sequence[str]) -> list[Override]:
    try:
        return _parser().parse_overrides(list(overrides))
    except (HydraException, ValueError) as error:  # a number of 5,000 digits is a ValueError
        raise ConfigError(f"Cannot read the command line: {str(error).splitlines()[0]}") from None


def _parser() -> OverridesParser:
    return OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())


def _jobs(overrides: Sequence[Override], left: list[list[str]] | None) -> Iterator[list[Override]]:
    """The first job of a sweep, and one job for each further value of each override, of the jobs that are `left`."""
    if left == []:
        return
    of_these = None if left is None else {text for job in left for text in job}
    values = {
        i: list(islice((text for text in _sweep(o) if of_these is None or text in of_these), 1000))
        for i, o in enumerate(overrides)
        if o.is_sweep_override()
    }
    parse = _parser().parse_override
    first = [parse(values[i][0]) if i in values else override for i, override in enumerate(overrides)]
    yield first
    for i, texts in values.items():
        for text in texts[1:]:
            yield [*first[:i], parse(text), *first[i + 1 :]]


def _sweep(override: Override) -> Iterator[str]:
    key = override.get_key_element()
    if override.is_interval_sweep():
        yield from (f"{key}={end}" for end in (override.value().start, override.value().end))  # type: ignore[union-attr]
    else:
        yield from (f"{key}={value}" for value in override.sweep_string_iterator())


def _check_job(name: str, overrides: Sequence[Override], searchpath: list[str], sweep: DictConfig | None) -> None:
    lines = [override.input_line or "" for override in overrides]
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    groups = [o for o in overrides if loader.repository.group_exists(o.key_or_group)]
    words = [line for o, line in zip(overrides, lines, strict=True) if o in groups and o.key_or_group != "experiment"]
    composed = _composed(name, overrides, words, searchpath)
    choices = {k: v for k, v in composed.hydra.runtime.choices.items() if not k.startswith("hydra/") and v is not None}
    _check_files(composed, choices)
    reference = composed
    changed = choices.get("experiment", "none") != "none"
    if changed or not all(_has_schema(composed, o) for o in overrides if o not in groups):
        words_alone = [f"{key}={word}" for key, word in choices.items() if key != "experiment"]
        reference = compose(name, [*words_alone, *searchpath])
    added = {o.key_or_group for o in overrides if o.is_add() or o.is_force_add()}
    with_hydra = OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])
    validate_config(with_hydra, reference, added, sweep is not None, frozenset(o.key_or_group for o in overrides))
    if sweep is not None:
        _check_sweep(sweep, composed)


def _check_files(composed: DictConfig, choices: dict[str, str]) -> None:
    """Refuse an options file that is empty, is not a mapping, or does not begin with its schema."""
    for group in filter(choices.__contains__, _OPTIONS):
        node = composed.get(group)
        if not isinstance(node, DictConfig) or OmegaConf.get_type(node) is dict:
            content = (
                "a list" if isinstance(node, ListConfig) else "nothing" if not node else "options without a schema"
            )
            raise ConfigError(
                f"{group}={choices[group]}: its file holds {content}; "
                f"expected 'defaults: [schema/{group}@_here_]' and options."
            )


def _check_sweep(sweep: DictConfig, job: DictConfig) -> None:
    if Path(job.out) == Path(sweep.sweep.dir):
        raise ConfigError(
            f"out={job.out} is also hydra.sweep.dir, and both hold a report: give one of them another folder."
        )
    if is_search(sweep.sweeper) and not measures_dev(job):
        raise ConfigError(
            "A search maximises optimized_metric, and these jobs do not measure it: "
            "give data= and evaluation= with dev sets."
        )


def _composed(name: str, overrides: Sequence[Override], words: list[str], searchpath: list[str]) -> DictConfig:
    """The composed config.

    Raises:
        ConfigError: with one sentence on the cause.
    """
    lines = [override.input_line or "" for override in overrides]
    try:
        return compose(name, [*lines, *searchpath], return_hydra_config=True)
    except ValueError as error:  # a group set to null; some errors of OmegaConf are ValueErrors too
        if not isinstance(error, OmegaConfBaseException):
            raise ConfigError(
                f"A group cannot be null: use the word none to turn it off. ({' '.join(lines)})"
            ) from error
        raise _explained(error, name, overrides, words, searchpath) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, name, overrides, words, searchpath) from error
    except MarkedYAMLError as error:  # invalid YAML, or a duplicate key
        where = error.problem_mark
        raise ConfigError(f"{where.name}: line {where.line + 1}: {error.problem}." if where else str(error)) from error


def _has_schema(composed: DictConfig, override: Override) -> bool:
    """Whether the node of an override has a schema, by which OmegaConf has checked its keys and values already."""
    owner, _, key = override.key_or_group.partition(".")
    return not key or OmegaConf.get_type(composed, owner) is not dict


def _explained(
    error: Exception, name: str, overrides: Sequence[Override], words: list[str], searchpath: list[str]
) -> ConfigError:
    """An error of Hydra in one sentence."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, word = error.missing_cfg_file.rpartition("/")
        more = f" More come with pip install 'lightning-embed[{_EXTRAS[group]}]'." if group in _EXTRAS else ""
        hint = nearest(word, error.options or schema.words(group))
        return ConfigError(f"{group}={word}: no such choice. {hint}{more}")
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    lines = [line.strip() for line in str(cause).splitlines()]
    key = next((line.partition(":")[2].strip() for line in lines if line.startswith("full_key:")), "")
    if not key and isinstance(error, HydraException):  # Could not override 'a.b'
        key = next(iter(part for part in str(error).splitlines()[0].split("'")[1:2]), "")
    reason = next((line for line in lines if "raised while composing" not in line), lines[0])
    if "not in" in reason or not key:
        known = _known(name, words, searchpath, key)
        missing = key.rpartition(".")[2]
        hint = _how_to_add(overrides, key)
        if (known or hint) and missing not in known:
            return ConfigError(f"{key}: no such option. {nearest(missing, known)}{hint}")
    value = next((o.get_value_element_as_str() for o in overrides if o.key_or_group == key), None)
    shown = f"{key}={value}: " if value is not None else f"{key}: " if key else ""
    return ConfigError(f"{shown}{reason}")


def _how_to_add(overrides: Sequence[Override], key: str) -> str:
    """The way to add a new key, below `datasets` and in options that are dictionaries."""
    match key.split(".")[-2:-1]:
        case ["datasets"]:
            return " A dataset is added in a YAML file of the group data."  # OmegaConf cannot add a typed node by +
        case ["let"] | ["prompts"] | ["stages"] | ["columns"] | ["step_shares"] | ["task_shares"]:
            above = [o for o in overrides if f"{key}.".startswith(f"{o.key_or_group}.")]
            given = max(above, key=lambda o: len(o.key_or_group), default=None)
            return f" To add one: +{given.input_line if given else key}"
        case _:
            return ""


def _known(name: str, words: list[str], searchpath: list[str], key: str) -> list[str]:
    """The options that exist where an unknown key was given."""
    try:
        node = compose(name, [*words, *searchpath])
    except (HydraException, OmegaConfBaseException):
        return []
    parent = OmegaConf.select(node, key.rpartition(".")[0]) if "." in key else node
    known = [str(k) for k in parent] if isinstance(parent, DictConfig) else []
    groups = [path.name for path in schema.conf_folder().iterdir() if path.is_dir()]
    return known if "." in key else sorted({*known, *groups})
