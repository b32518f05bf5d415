"""Records of the finished jobs of a sweep: one file each, `<sweep>/jobs/<hash of its resolved config>.json`."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import OmegaConf

from lightning_embed.config.secrets import HIDDEN, without_secrets, without_secrets_in_override
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.json_file import cached_json
from lightning_embed.storage.publish import discard
from lightning_embed.types import Choice

FOLDER = "jobs"


@dataclass(frozen=True)
class Job:
    """A finished job.

    Args:
        choices: choices of its command line.
        out: its folder.
        value: its `optimized_metric`; None: not measured.
        seconds: its duration.
        error: message of its failure; None: it succeeded.
    """

    choices: Sequence[Choice]
    out: str
    value: float | None
    seconds: float
    error: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether it succeeded and its folder still exists, so that it need not run again."""
        return self.error is None and Path(self.out).exists()


def write(file: Path, job: Job) -> None:
    """Write the record of a job."""
    discard(file)
    write_whole(file, json.dumps(asdict(job), indent=1) + "\n")


def read(file: Path) -> Job | None:
    """The record of a job; None: the job has not finished, or its record is broken, so that it must run."""
    if (record := cached_json(file, Job)) is None:
        return None
    return Job(**{**record, "choices": [Choice(**each) for each in record["choices"]]})


def hide_secrets(file: Path) -> None:
    """Write a config again without the values of secret options, in its overrides too; others are not touched."""
    if file.is_file():
        text = file.read_text(encoding="utf-8")
        shown = OmegaConf.create(without_secrets(OmegaConf.to_container(OmegaConf.create(text), resolve=False)))
        if HIDDEN in (hidden := without_secrets_in_override(OmegaConf.to_yaml(shown))):
            write_whole(file, hidden)


def forget_failures(sweep: Path) -> None:
    """Remove the records of failed jobs, which run again or belong to a different command with this folder."""
    for file in (sweep / FOLDER).glob("*.json"):
        if (job := read(file)) is not None and job.error is not None:
            file.unlink()


def read_all(sweep: Path) -> list[Job]:
    """All finished jobs, sorted by their choices, so that the order depends on no launcher and no restart.

    If a file of the config changed between two jobs with the same choices, only the later job is returned.
    """
    files = sorted((sweep / FOLDER).glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    latest = {tuple(job.choices): job for file in files if (job := read(file)) is not None}
    return [latest[choices] for choices in sorted(latest, key=lambda choices: [choice.text for choice in choices])]
