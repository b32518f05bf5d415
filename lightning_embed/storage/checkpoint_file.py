"""Checkpoints of trainings, read as tensors, numbers and texts: a pickle of other objects could run code."""

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from lightning_embed.errors import CheckpointError


def read(file: Path, remedy: str, **options: Any) -> dict[str, Any]:
    """Read a checkpoint.

    Args:
        file: of the checkpoint.
        remedy: the end of an error message.
        options: of torch.load; with `mmap` the bytes of tensors are not compared with their checksums.

    Raises:
        CheckpointError: the file is cut, empty, no checkpoint, or has objects of other classes.
    """
    try:
        with zipfile.ZipFile(file) as archive:  # torch itself does not compare the checksums of tensors
            changed = None if options.get("mmap") else archive.testzip()
        if changed is not None:
            raise CheckpointError(f"{file} has changed since it was written, in {changed}. {remedy}")
        checkpoint: Any = torch.load(file, weights_only=True, **options)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{file} has more than tensors, numbers and texts, which could run code ({reason(error)}). {remedy}"
        ) from None
    except Exception as error:  # torch raises errors of many types
        raise CheckpointError(f"{file} is not a whole checkpoint ({reason(error)}). {remedy}") from None
    if not isinstance(checkpoint, dict):
        raise CheckpointError(f"{file} is not a checkpoint of a training, but a {type(checkpoint).__name__}. {remedy}")
    return checkpoint


def reason(error: Exception) -> str:
    """The class that a pickle names, or the first sentence of an error of torch, which goes on with advice."""
    text = str(error)
    if named := re.search(r"GLOBAL (\S+)", text):
        return named[1]
    return text.strip().partition("\n")[0].partition(". ")[0][:200].rstrip(".") or type(error).__name__
