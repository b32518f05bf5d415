"""Jobs of a sweep that are done, recognised by their overrides: to compose the config of each takes half a second.

As a job begins, its overrides are kept with its hash and with everything that the hash was computed from: the YAML files
and the code that its config is composed of, the variables of the environment that it asks for, and what was read of
datasets, models and code of one's own. If all of that is as it was, so is the hash. If anything differs, the job is
composed, and its hash computed again, as that of an unknown job.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import omegaconf
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf

from lightning_embed import registry
from lightning_embed.config import content
from lightning_embed.config.secrets import asked_variables
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.code_fingerprint import fingerprint
from lightning_embed.storage.json_file import cached_json
from lightning_embed.sweep import records
from lightning_embed.sweep.records import Job

FOLDER = "known"
_PACKAGE = Path(__file__).parent.parent
_RESOLVER = re.compile(r"\$\{\s*([\w.]+)\s*:")
_ADDRESS = re.compile(" at 0x[0-9a-f]+")
_PURE = {"run_hash", "package_file", "sweep_group", "case", "oc.env"}  # what they read is kept, or cannot change
_MOST_FILES = 5_000  # YAML files in a folder of configs: above, each job is composed


@dataclass(frozen=True)
class _Known:
    """Where the record of a job is, and what its hash was computed from.

    Args:
        job: hash of the job.
        composition: digest of what the config is composed of.
        variables: names of the variables of the environment.
        environment: digest of their values.
        reads: name of the file with what was read, `<digest>.json`.
    """

    job: str
    composition: str
    variables: list[str]
    environment: str
    reads: str


def remember(command: str, cfg: DictConfig, sweep: Path, job: str, reads: Mapping[str, Any]) -> None:
    """Keep what the hash of the job of this process was computed from, unless it depends on more than is known here.

    Args:
        command: train or merge.
        cfg: config of the job.
        sweep: folder of the sweep.
        job: its hash.
        reads: of `content.noticed`, while the hash was computed.
    """
    config = HydraConfig.get()
    composition = _composition(command, _paths(config.runtime.config_sources))
    used = set(_RESOLVER.findall(str(OmegaConf.to_container(cfg, resolve=False))))
    if composition is None or not used <= _PURE:
        return
    text = json.dumps(reads, sort_keys=True)
    file = sweep / FOLDER / "reads" / f"{_digest(text)}.json"
    if not file.exists():
        write_whole(file, text)
    known = _Known(job, composition, asked_variables(), _environment(asked_variables()), file.stem)
    write_whole(_file(sweep, list(config.overrides.task)), json.dumps(vars(known)))


def done(command: str, config: DictConfig, jobs: Iterable[Sequence[str]]) -> dict[tuple[str, ...], Job]:
    """The jobs that are done, by their overrides.

    Args:
        command: train or merge.
        config: node `hydra` of the sweep's config.
        jobs: overrides of each job.
    """
    sweep, found = Path(config.sweep.dir), dict[tuple[str, ...], Job]()
    if (
        not (sweep / FOLDER).is_dir()
        or (composition := _composition(command, _paths(config.runtime.config_sources))) is None
    ):
        return found
    unchanged = cache(_unchanged)
    for overrides in jobs:
        values = cached_json(_file(sweep, overrides), _Known)
        if values is None or (known := _Known(**values)).composition != composition:
            continue
        if _environment(known.variables) == known.environment and unchanged(sweep / FOLDER / "reads" / known.reads):
            job = records.read(sweep / records.FOLDER / f"{known.job}.json")
            if job is not None and job.is_done:
                found[tuple(overrides)] = job
    return found


def split(overrides: Iterable[Override]) -> list[list[str]]:
    """The jobs of a sweep, each as its overrides, in Hydra's order; of a search, whose jobs are not known: none."""
    given = list(overrides)
    if any(each.is_sweep_override() and not each.is_discrete_sweep() for each in given):
        return []
    return BasicSweeper.split_arguments(given, None)[0]


def leave_out(jobs: Collection[tuple[str, ...]]) -> None:
    """Let Hydra's sweeper of all combinations pass over `jobs`: it would compose each of them twice."""

    def split_the_rest(overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        rest = [job for job in BasicSweeper.split_arguments(overrides, None)[0] if tuple(job) not in jobs]
        return list(BasicSweeper.split_overrides_to_chunks(rest, max_batch_size)) if rest else []

    for sweeper in Plugins.instance().discover(Sweeper):  # Hydra imports its plugins a second time
        if sweeper.__name__ == BasicSweeper.__name__:
            sweeper.split_arguments = staticmethod(split_the_rest)  # type: ignore[attr-defined]


def _file(sweep: Path, overrides: Sequence[str]) -> Path:
    return sweep / FOLDER / f"{_digest(json.dumps(list(overrides)))}.json"


def _unchanged(file: Path) -> bool:
    """Whether all that was read would be read again."""
    reads = cached_json(file.with_suffix(".json"), dict[str, object])
    return reads is not None and all(_equal(call, result) for call, result in reads.items())


def _equal(call: str, result: object) -> bool:
    try:
        return bool(content.again(call) == result)
    except Exception:  # of any kind: the job is composed, and reports it
        return False


def _environment(variables: Iterable[str]) -> str:
    return _digest(json.dumps({name: os.environ.get(name) for name in variables}, sort_keys=True))


def _paths(sources: Iterable[Any]) -> tuple[str, ...]:
    """The places of configs, without those of Hydra itself and of the schemas."""
    places = ((source.schema, source.path) for source in sources)
    return tuple(sorted({f"{kind}://{path}" for kind, path in places if kind != "structured" and path != "hydra.conf"}))


@cache
def _composition(command: str, places: tuple[str, ...]) -> str | None:
    """The digest of what configs are composed of; None: a place of configs is not a folder, or too large."""
    parts = [command, os.getcwd(), *sys.path, hydra.__version__, omegaconf.__version__, fingerprint(_PACKAGE)]
    parts += list(_schemas())
    for place in places:
        folder = Path(place.removeprefix("file://"))
        if not place.startswith("file://") or (files := _yaml_files(folder)) is None:
            return None
        parts += [text for file in files for text in (str(file), hashlib.sha256(file.read_bytes()).hexdigest())]
    return _digest(json.dumps(parts))


def _yaml_files(folder: Path) -> list[Path] | None:
    """The configs of a folder, hidden folders left out; None: too many."""
    found: list[Path] = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")))
        found += [Path(root) / name for name in sorted(files) if name.endswith((".yaml", ".yml"))]
        if len(found) > _MOST_FILES:
            return None
    return found


def _schemas() -> Iterator[str]:
    """Options and defaults of all words, of other packages too."""
    for room in registry.ROOMS:
        for entry in registry.entries(room):
            options = [(each.name, each.type, each.default) for each in fields(entry.cls)]
            yield _ADDRESS.sub("", f"{entry.origin} {options}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
