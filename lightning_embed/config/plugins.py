"""Import of every registered class: the package's own, those in `plugins/` and those of other packages."""

import importlib
import importlib.util
import pkgutil
import warnings
from importlib.metadata import entry_points
from pathlib import Path

from lightning_embed.errors import ConfigError, PluginError

PLUGIN_GROUP = "lightning_embed.plugins"


def import_words() -> None:
    """Import every module that registers a word: of this package, of `plugins/`, and entry points of other packages.

    Raises:
        PluginError: a file in `plugins/` cannot be imported.
        RegistryError: two classes register the same word.
    """
    for room in ("loss", "sampler", "experts"):
        _import_all(f"lightning_embed.{room}")
    _import_plugins()
    _import_entry_points()


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
