"""The folder around the weights: written beside its target and renamed when whole; configuration and tokenizer copied."""

import errno
import filecmp
import glob
import json
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning_embed.errors import CheckpointError
from lightning_embed.runtime import fault_injection

RECORD_FILE = "merge.json"
ADAPTER_CONFIG_FILE = "adapter_config.json"
# Weights beside model.safetensors, in the formats of other programs: of the first source only, so wrong beside merged ones.
_WEIGHTS = frozenset(
    {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".ot", ".onnx", ".gguf"}
)
# Where and when a file was written, not what the model does.
_INCIDENTAL_KEYS = frozenset({"_name_or_path", "transformers_version", "dtype", "torch_dtype", "__version__"})
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
CARD_FILE = "README.md"
INCIDENTAL_FILES = frozenset({CARD_FILE, "LICENSE"})


@contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `target` when the block ends well, and disappears when it does not.

    Every process has a folder of its own, so that several may write the same target; the last one to end counts. One
    that was killed leaves its folder behind, hidden; the next one to the same target, on the same machine, removes it.

    Raises:
        CheckpointError: `target` has content that no merge has written, or cannot be written: a full disk.
    """
    partial, old = _hidden(target, os.getpid())
    try:
        _refuse_others_work(target)
        settle(target)
        partial.mkdir(parents=True)
        yield partial
        fault_injection.point("before_merge_replaces")
        while not _put(partial, target, old):
            shutil.rmtree(old, ignore_errors=True)
        fault_injection.point("after_merge_replaced")
    except OSError as error:
        if error.errno in _FULL or _lies_beside(target, error.filename):
            raise CheckpointError(
                f"{target} cannot be written ({error}). Make room, or choose another target; what was there is as it was."
            ) from error
        raise  # of the models, or of data
    finally:
        with suppress(OSError):
            _settle(target, os.getpid())


def _lies_beside(target: Path, file: object) -> bool:
    return isinstance(file, str) and Path(file).absolute().is_relative_to(target.parent.absolute())


def _put(partial: Path, target: Path, old: Path) -> bool:
    """Move the earlier merge away and the new one into its place; False: another process was there in between."""
    with suppress(FileNotFoundError):
        target.rename(old)
    fault_injection.point("while_merge_replaces")
    try:
        partial.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def settle(target: Path) -> None:
    """Remove what killed merges left beside `target`; what stood there before is put back, if nothing else does."""
    for path in sorted(target.parent.glob(f".{glob.escape(target.name)}.*.{socket.gethostname()}.*")):
        pid = path.suffix.removeprefix(".")
        if pid.isdigit() and not _is_alive(int(pid)):
            _settle(target, int(pid))


def _settle(target: Path, pid: int) -> None:
    partial, old = _hidden(target, pid)
    if old.exists() and not target.exists():
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(partial, ignore_errors=True)


def _hidden(target: Path, pid: int) -> tuple[Path, Path]:
    """The folder that a process writes to, and the one to which it moves the earlier merge."""
    owner = f"{socket.gethostname()}.{pid}"
    return target.with_name(f".{target.name}.partial.{owner}"), target.with_name(f".{target.name}.old.{owner}")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _refuse_others_work(target: Path) -> None:
    if target.exists() and not (target / RECORD_FILE).exists() and (not target.is_dir() or any(target.iterdir())):
        raise CheckpointError(
            f"{target} exists and holds no {RECORD_FILE}, so no merge wrote it. Choose another target, or remove it."
        )


def copy_files(folders: Sequence[Path], target: Path, dtype: str | None) -> None:
    """Copy all of a model but its weights; name `dtype` in config.json, unless it is None.

    Args:
        folders: of the model; of two files with one name, the last counts.
        target: folder to copy to.
        dtype: of the merged weights.
    """
    for name, file in copied_files(folders).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target / name)
    config_file = target / "config.json"
    if dtype is not None and config_file.exists():
        config = {key: value for key, value in _read_json(config_file).items() if key != "torch_dtype"}
        config_file.write_text(json.dumps(config | {"dtype": dtype}, indent=2) + "\n")


def differing_files(first: Sequence[Path], other: Sequence[Path]) -> list[str]:
    """Configuration, prompts, tokenizer ... that are not the same in both models, or only in one of them."""
    ours, theirs = copied_files(first), copied_files(other)
    names = (name for name in sorted({*ours, *theirs}) if name.name not in INCIDENTAL_FILES)
    return [str(name) for name in names if not (name in ours and name in theirs and _is_same(ours[name], theirs[name]))]


def copied_files(folders: Sequence[Path]) -> dict[Path, Path]:
    """All files at the top but weights, and the folders of sentence-transformers' modules, their weights included."""
    found: dict[Path, Path] = {}
    for folder in folders:
        top = [path for path in folder.iterdir() if path.is_file() and path.suffix not in _WEIGHTS]
        modules = [path for module in _module_folders(folder) for path in module.rglob("*") if path.is_file()]
        found |= {path.relative_to(folder): path for path in sorted([*top, *modules]) if _is_copied(path.name)}
    return found


def _is_copied(name: str) -> bool:
    """A card tells of its own model alone."""
    return (
        not name.startswith(".") and not name.endswith(".index.json") and name not in (ADAPTER_CONFIG_FILE, CARD_FILE)
    )


def _module_folders(source: Path) -> list[Path]:
    modules = source / "modules.json"
    listed = _read_json(modules) if modules.exists() else []
    return [source / module["path"] for module in listed if module["path"]]


def _is_same(one: Path, other: Path) -> bool:
    if one.suffix == ".json":
        return bool(_content(one) == _content(other))
    return filecmp.cmp(one, other, shallow=False)


def _content(file: Path) -> Any:
    content = _read_json(file)
    if isinstance(content, dict):
        return {key: value for key, value in content.items() if key not in _INCIDENTAL_KEYS}
    return content


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise CheckpointError(f"{file} is not valid JSON ({error}). Mend it, or export the model again.") from None
