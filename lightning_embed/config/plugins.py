"""Import of every registered class: the package's own, those in `plugins/`, those of other packages, and those of here.

Here is the working directory: its folder `plugins/` holds words of one's own, and its modules can be named by
`_target_`, as for a script that is run in it. No other folder is ever looked at: not that of a model, nor of data.
"""

import importlib
import importlib.util
import pkgutil
import sys
import warnings
from enum import StrEnum
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from lightning_embed.errors import ConfigError, PluginError

PLUGIN_GROUP = "lightning_embed.plugins"
FOLDER = "plugins"
_OURS = b"lightning_embed"
_local: dict[str, Path] = {}


class Plugins(StrEnum):
    """Doors of words. `here`: installed packages, and the folder plugins/ of the working directory."""

    here = "here"
    installed = "installed"


def import_words(doors: Plugins = Plugins.installed) -> None:
    """Import every module that registers a word.

    Raises:
        PluginError: a file in `plugins/` cannot be imported.
        RegistryError: two classes register the same word.
    """
    for room in ("loss", "sampler", "experts"):
        _import_all(f"lightning_embed.{room}")
    _import_plugins()
    _import_entry_points()
    make_importable(Path.cwd())
    if doors is Plugins.here:
        _import_folder(Path.cwd() / FOLDER)


def local_files() -> dict[str, Path]:
    """The files of the working directory's `plugins/` that were imported, by their names: plugins/huber.py."""
    return dict(_local)


def make_importable(folder: Path) -> None:
    """Put the working directory first on the path of imports, as Python does for a script in it.

    Not where Python itself was told to leave it out (`python -P`, PYTHONSAFEPATH).
    """
    if not sys.flags.safe_path and not {"", str(folder)} & set(sys.path):
        sys.path.insert(0, str(folder))


def _import_all(package: str) -> None:
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def _import_plugins() -> None:
    try:
        _import_all(PLUGIN_GROUP)
    except ConfigError:
        raise
    except Exception as error:  # a plugin may fail in any way
        file = _failing_file(error)
        raise PluginError(
            f"plugins/{file}: cannot be imported: {type(error).__name__}: {error}. Mend it or remove the file."
        ) from error


def _import_folder(folder: Path) -> None:
    """Import the files of a folder that use this package; a folder of another purpose stays as it is."""
    for file in sorted(folder.glob("*.py")):
        if file.stem == "__init__" or not file.stem.isidentifier() or _OURS not in file.read_bytes() or _is_known(file):
            continue
        name = f"{FOLDER}.{file.stem}"
        try:
            _package(folder)
            importlib.import_module(name)
        except ConfigError as error:
            raise type(error)(f"{error} Or give plugins=installed, which leaves {folder} out.") from error
        except Exception as error:  # a plugin may fail in any way
            raise PluginError(
                f"{file}: cannot be imported: {type(error).__name__}: {error}. Mend it, remove the file, or give "
                "plugins=installed, which leaves the folder out."
            ) from error
        _local[f"{FOLDER}/{file.name}"] = file


def _is_known(file: Path) -> bool:
    """Whether a file is one of the package's plugins: the working directory is the checkout, or a copy of it."""
    ours = (Path(folder) / file.name for folder in importlib.import_module(PLUGIN_GROUP).__path__)
    return any(each.exists() and (each.samefile(file) or each.read_bytes() == file.read_bytes()) for each in ours)


def _package(folder: Path) -> None:
    """Let `plugins` be this folder, whatever an installed package of that name holds.

    Raises:
        PluginError: another package `plugins` is imported already.
    """
    if (known := sys.modules.get(FOLDER)) is not None:
        if str(folder) not in getattr(known, "__path__", ()):
            raise PluginError(f"{FOLDER} is a package of {known.__file__ or known}: rename that one")
        return
    file = folder / "__init__.py"
    if not file.exists():
        sys.modules[FOLDER] = module = ModuleType(FOLDER)
        module.__path__ = [str(folder)]
        return
    spec = importlib.util.spec_from_file_location(FOLDER, file, submodule_search_locations=[str(folder)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules[FOLDER] = package = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(package)
    except BaseException:
        del sys.modules[FOLDER]
        raise


def _failing_file(error: BaseException) -> str:
    folder, trace, file = PLUGIN_GROUP.rpartition(".")[2], error.__traceback__, "?"
    if isinstance(error, SyntaxError) and error.filename:
        return Path(error.filename).name
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        file = path.name if path.parent.name == folder else file
        trace = trace.tb_next
    return file


def _import_entry_points() -> None:
    for point in entry_points(group=PLUGIN_GROUP):
        try:
            point.load()
        except ConfigError:
            raise
        except Exception as error:  # a broken third-party package must not stop this one
            warnings.warn(
                f"The plugin {point.name} ({point.value}) was skipped: {type(error).__name__}: {error}", stacklevel=2
            )
