"""Folders of merged models: written beside the target and renamed when complete."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_embed.errors import CheckpointError
from lightning_embed.runtime import fault_injection
from lightning_embed.storage import publish
from lightning_embed.storage.publish import published_folder

RECORD_FILE = "merge.json"
MODEL_FOLDER = "model"
ADAPTER_CONFIG_FILE = "adapter_config.json"
_POINTS = {"while_missing": "while_merge_replaces", "replaced": "after_merge_replaced"}


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes `target` when the block succeeds, and is removed when it fails.

    See `storage.publish`: several processes can write the same target, and the last one to end counts. A killed process
    leaves its hidden folder behind; the next merge into the same target, on the same machine, removes it.

    Raises:
        CheckpointError: `target` has content that no merge wrote, or cannot be written, as on a full disk.
    """
    try:
        _refuse_others_work(target)
        settle(target)
        with published_folder(target, at=lambda step: fault_injection.point(_POINTS[step])) as partial:
            yield partial
            fault_injection.point("before_merge_replaces")
    except OSError as error:
        if error.errno == errno.EROFS or _lies_beside(target, error.filename):
            raise CheckpointError(
                f"{target} cannot be written ({error}). Choose a different target; its earlier content is unchanged."
            ) from error
        raise  # an error of the models, or of the data


def _lies_beside(target: Path, file: object) -> bool:
    return isinstance(file, str) and Path(file).absolute().is_relative_to(target.parent.absolute())


def settle(target: Path) -> None:
    """Remove the folders of killed merges beside `target`; restore the earlier merge if `target` does not exist."""
    publish.settle(target.parent, target.name)


def _refuse_others_work(target: Path) -> None:
    if target.exists() and not (target / RECORD_FILE).exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(
            f"{target} exists and holds no {RECORD_FILE}, so no merge wrote it. "
            "Choose a different target, or remove it."
        )
