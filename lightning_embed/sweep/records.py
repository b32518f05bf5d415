"""What became of the jobs of a sweep: `<sweep>/jobs/<hash of its resolved config>.json`, one small file each."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lightning_embed.storage.atomic import write_whole
from lightning_embed.types import Choice

FOLDER = "jobs"


@dataclass(frozen=True)
class Job:
    """A job that ended.

    Args:
        choices: of its command line.
        out: its folder.
        value: of the `optimized_metric`; None: it measured nothing.
        seconds: that it took.
        error: why it failed; None: it did not.
    """

    choices: Sequence[Choice]
    out: str
    value: float | None
    seconds: float
    error: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether it need not be done again: it did not fail, and its folder is still there."""
        return self.error is None and Path(self.out).exists()


def write(file: Path, job: Job) -> None:
    """Keep what became of a job."""
    write_whole(file, json.dumps(asdict(job), indent=1) + "\n")


def read(file: Path) -> Job | None:
    """What became of a job; None: it has not ended, or its record is broken, so that it is to be done (again)."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Job(**{**found, "choices": [Choice(**each) for each in found["choices"]]})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def forget_failures(sweep: Path) -> None:
    """Drop the records of jobs that failed: they are done again, or are of another command that had this folder."""
    for file in (sweep / FOLDER).glob("*.json"):
        if (job := read(file)) is not None and job.error is not None:
            file.unlink()


def read_all(sweep: Path) -> list[Job]:
    """All that ended, in the order of their choices, which no kill and no launcher changes.

    Of two with the same choices, between which a file of the config was changed, the later one.
    """
    files = sorted((sweep / FOLDER).glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    latest = {tuple(job.choices): job for file in files if (job := read(file)) is not None}
    return [latest[choices] for choices in sorted(latest, key=lambda choices: [choice.text for choice in choices])]
