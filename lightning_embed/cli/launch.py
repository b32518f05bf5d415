"""The command line: `train.py` and `merge.py`.

The config is checked before Hydra starts the job (`config.compose`).
"""

import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any, NoReturn

import hydra
from hydra._internal import utils as hydra_utils
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from lightning_embed.cli import failures
from lightning_embed.cli.quoting import quoted
from lightning_embed.config import plugins, schema
from lightning_embed.config.compose import check_command
from lightning_embed.config.identity import sweep_hash
from lightning_embed.config.plugins import Plugins
from lightning_embed.config.run_yaml import versions
from lightning_embed.config.secrets import without_environment
from lightning_embed.config.sweep_context import is_job, is_search
from lightning_embed.errors import LightningEmbedError
from lightning_embed.runtime import launched, peers, signals, streams
from lightning_embed.storage.names import visible_lines
from lightning_embed.sweep import job, known_jobs

logger = logging.getLogger(__name__)

_FLAGS_OF_HYDRA = ("-h", "--help", "--hydra-help", "--version", "-sc", "--shell-completion", "-i", "--info")


def _train(cfg: DictConfig) -> float | None:
    _enter_folder()
    schema.register(cfg.plugins)  # a worker process of a launcher starts here

    def step() -> float | None:
        from lightning_embed.run import train  # imports Lightning and transformers: seconds

        signals.started()
        return train.train(cfg)

    return _run("train", step, cfg)


def _merge(cfg: DictConfig) -> float | None:
    _enter_folder()
    schema.register(cfg.plugins)

    def step() -> float | None:
        from lightning_embed.run import merge

        signals.started()
        return merge.merge(cfg)

    return _run("merge", step, cfg)


def _enter_folder() -> None:
    """Work where the command was typed, as its paths do: a worker of a Ray cluster is where the cluster was started."""
    config = HydraConfig.get()
    if not config.job.chdir:
        os.chdir(config.runtime.cwd)


_JOBS = {"train": _train, "merge": _merge}


def _run(command: str, step: Callable[[], float | None], cfg: DictConfig) -> float | None:
    """Run a step; an error that the user can fix is printed without a traceback."""
    signals.install()  # here in a worker process of a launcher
    _log_local_plugins()
    watched = partial(_watched, partial(signals.stoppable, step))
    if is_job():
        return job.do(command, watched, cfg, _explained_failure)
    try:
        return watched()
    except Exception as error:
        _exit_or_raise(error)


def _watched(step: Callable[[], float | None]) -> float | None:
    """Run a step. Its failure ends all ranks, and the first has the word."""
    try:
        return step()
    except Exception as error:
        if (cause := _ours(error)) is None:
            peers.fail(1, "".join(traceback.format_exception(error)), is_cause=False)
        else:
            peers.fail(2, _sentence(cause))
        raise


def _explained_failure(error: Exception) -> str:
    """An error in one line; one that the user cannot fix is also printed with its traceback."""
    cause = _ours(error) or error
    if not isinstance(cause, LightningEmbedError):
        traceback.print_exception(error)
    return _sentence(cause)


def _ours(error: BaseException | None) -> LightningEmbedError | None:
    """The `LightningEmbedError` behind an error of Hydra or OmegaConf, or for a failure of the machine; else None."""
    while error is not None and not isinstance(error, LightningEmbedError):
        if isinstance(error, BrokenPipeError):
            streams.end_if_unread()
        if (cause := failures.explained(error)) is not None:
            return cause
        error = error.__cause__ or (error.__context__ if isinstance(error, OmegaConfBaseException) else None)
    return error


def _exit_or_raise(error: Exception) -> NoReturn:
    if (cause := _ours(error)) is None:
        raise error
    _exit(cause, error)


def _reported(func: Callable[[], Any]) -> Any:
    """Run a part of Hydra, which makes folders too; what is no failure of the machine is reported by Hydra itself."""
    try:
        return func()
    except Exception as error:
        if (cause := _ours(error)) is not None:
            _exit(cause, error)
        return _report_of_hydra(partial(_exit_or_raise, error))


_report_of_hydra, hydra_utils.run_and_report = hydra_utils.run_and_report, _reported


def _exit(error: LightningEmbedError, raised: Exception) -> NoReturn:
    if os.environ.get("HYDRA_FULL_ERROR"):
        traceback.print_exception(raised)
    print(_sentence(error), file=sys.stderr)
    sys.exit(2)


def _sentence(error: Exception) -> str:
    return visible_lines(without_environment(f"{type(error).__name__}: {error}"))


def launch(name: str) -> None:
    """Run the command `train` (train, merge, evaluate) or `merge` (merge, evaluate) of this process's command line."""
    if "--version" in sys.argv[1:]:  # Hydra would print its own alone
        print("\n".join(f"{package} {version}" for package, version in versions().items()))
        return
    overrides: list[Override] = []
    is_sweep = bool({"-m", "--multirun"} & set(sys.argv[1:]))
    folder: list[str] = []
    try:
        schema.register(_doors())
        if not set(_FLAGS_OF_HYDRA) & set(sys.argv[1:]):
            given, config_dir, _ = _arguments()
            folder = _folder_of_sweep(sys.argv[1:]) if is_sweep else []
            overrides = check_command(name, [*given, *folder], config_dir, is_sweep, partial(_remaining, name))
    except Exception as error:
        _exit_or_raise(error)
    if is_sweep:
        sys.argv[1:] = [*_options_of_swept_words(sys.argv[1:], overrides), *folder]
    main = hydra.main(version_base="1.3", config_path=str(schema.conf_folder()), config_name=name)
    try:
        if is_sweep:
            signals.started()  # the jobs of a launcher run in other processes
        main(_JOBS[name])()
    except signals.Stopped as stop:
        signals.end(stop)
    except Exception as error:  # outside of what Hydra reports, such as its help
        _exit_or_raise(error)


def _doors() -> Plugins:
    """Where words come from: known before the rest of the command line, whose words they are."""
    return Plugins.installed if f"plugins={Plugins.installed}" in sys.argv[1:] else Plugins.here


@cache
def _log_local_plugins() -> None:
    """Name the code of the working directory that runs, once in a process."""
    if (files := plugins.local_files()) and launched.is_first():
        logger.info("%s: words of this folder (without them: plugins=installed)", ", ".join(files))


def _remaining(name: str, config: DictConfig, overrides: list[Override]) -> list[list[str]] | None:
    """The jobs of a sweep that are still to be done; the others are left out. None: they are not known beforehand."""
    if is_search(config.sweeper) or not (jobs := known_jobs.split(overrides)):
        return None
    done = known_jobs.done(name, config, jobs)
    for known in done.values():
        job.print_done(known.choices, known.out)
    known_jobs.leave_out(done)
    return [each for each in jobs if tuple(each) not in done]


def _folder_of_sweep(arguments: Sequence[str]) -> list[str]:
    """The argument for the sweep's folder, unless given; the same sweep has the same folder under every launcher."""
    if any(argument.lstrip("+").startswith("hydra.sweep.dir=") for argument in arguments):
        return []
    return [f"hydra.sweep.dir=runs/sweep-{sweep_hash(arguments)}"]


def _options_of_swept_words(arguments: list[str], overrides: Sequence[Override]) -> list[str]:
    """`merge=ties,dare merge.density=0.3` as `merge.density=choice(0.3)`.

    Hydra composes a sweep once without its swept overrides and those of the sweeper's file, here with merge=soup, and
    stops at an option that soup lacks.

    Args:
        arguments: the command line.
        overrides: overrides of the sweep, including those in the sweeper's file.
    """
    swept = [o.package or o.key_or_group for o in overrides if o.is_sweep_override() or o.input_line not in arguments]
    for override in overrides:
        line = override.input_line
        owner = any(override.key_or_group.startswith(f"{word}.") for word in swept)
        if line and owner and not (override.is_sweep_override() or override.is_delete()):
            swept_line = f"{override.get_key_element()}=choice({override.get_value_element_as_str()})"
            arguments = [swept_line if argument == line else argument for argument in arguments]
    return arguments


def _arguments() -> tuple[list[str], str | None, bool]:
    """Overrides, --config-dir and --multirun of the command line, in which flags may stand between overrides."""
    parsed = hydra_utils.get_args_parser().parse_intermixed_args()
    flags = [argument for argument in sys.argv[1:] if argument not in parsed.overrides]
    overrides = quoted(parsed.overrides)
    sys.argv[1:] = [*flags, *overrides]  # Hydra itself requires flags first
    return overrides, parsed.config_dir, parsed.multirun
