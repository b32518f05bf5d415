"""The modules of a sentence-transformers directory: the folder of its body, and the modules beside it with weights."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.inside import inside
from lightning_embed.storage.json_file import read_json

MODULES_FILE = "modules.json"
ROUTER_FILE = "router_config.json"
_SAFETENSORS = (".safetensors", ".safetensors.index.json")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_DEEPEST = 8  # routers in routers; a link to a folder above would have no end
_REMEDY = "Fix it, or export the model again."


@dataclass
class _Module:
    """The part of an entry of modules.json that is read."""

    path: str
    type: str = ""


@dataclass
class _Router:
    """The part of a router's configuration that is read: folders of its modules, with their types."""

    types: dict[str, str]


@dataclass(frozen=True)
class Module:
    """A module of a model directory.

    Args:
        kind: name of its class; empty: the body.
        folder: its path in the directory, with slashes; empty: the directory itself.
    """

    kind: str
    folder: str

    @property
    def prefix(self) -> str:
        """The beginning of the names of its tensors in a merge: `2_Dense.` of `2_Dense.linear.weight`."""
        return self.folder.replace("/", ".") + "." if self.kind else ""


@dataclass(frozen=True)
class Layout:
    """The places of a model directory.

    Args:
        body: folder of the body (the Transformer, or the first module with weights), whose tensors have no prefix.
        modules: all modules in the order of modules.json, those of routers after their router; empty without the file.
        weighted: the modules that have weights, except for the body.
    """

    body: str = ""
    modules: tuple[Module, ...] = ()
    weighted: tuple[Module, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether the directory has no modules.json."""
        return not self.modules

    @property
    def folders(self) -> list[str]:
        """Folders of the modules beside the body."""
        return sorted({module.folder for module in self.modules} - {self.body, ""})

    @property
    def weights(self) -> list[Module]:
        """The body, whose tensors have no prefix, and the other modules with weights."""
        return [Module("", self.body), *self.weighted]

    def names_of(self, module: Module, names: Iterable[str]) -> list[str]:
        """Those of the names that belong to a module."""
        return [name for name in names if self.prefix_of(name) == module.prefix]

    def prefix_of(self, name: str) -> str:
        """The prefix of the module that has a tensor; empty for the body."""
        return max((m.prefix for m in self.weighted if name.startswith(m.prefix)), key=len, default="")


def layout_of(folder: Path) -> Layout:
    """Read the layout of a directory.

    Raises:
        CheckpointError: a broken modules.json, a path that leads out of the directory, or a module whose weights are
            a pickle.
    """
    file = inside(folder, MODULES_FILE)
    if not file.exists():
        return Layout()
    listed = read_json(file, list[_Module], _REMEDY)
    for path in (path for entry in listed if not _is_inside(folder, path := entry["path"])):
        raise CheckpointError(f"{file}: expected the paths of modules in this directory, found {path!r}. Fix it.")
    modules = [m for entry in listed for m in _with_parts(folder, _module(entry.get("type", ""), entry["path"]))]
    if not modules:
        return Layout()
    with_weights = [module for module in modules if _has_safetensors(folder, module)]
    bodies = [module for module in modules if module.kind.endswith("Transformer")] or with_weights
    body = bodies[0].folder if bodies else ""
    weighted = tuple(module for module in with_weights if module.folder not in (body, ""))
    for module in modules:
        if module.folder not in (body, "") and module not in weighted:
            _refuse_pickle(folder, module)
    return Layout(body, tuple(modules), tuple(dict.fromkeys(weighted)))


def files_of(folder: Path) -> list[str]:
    """Names of the files of a folder, in the order of the alphabet; empty if the folder does not exist."""
    return sorted(path.name for path in folder.iterdir() if not path.is_dir()) if folder.is_dir() else []


def _is_inside(folder: Path, path: str) -> bool:
    try:
        inside(folder, path)
    except CheckpointError:
        return False
    return True


def _module(kind: str, path: str) -> Module:
    return Module(kind.rpartition(".")[2] or "module", "" if path in ("", ".") else str(PurePosixPath(path)))


def _with_parts(folder: Path, module: Module) -> Iterator[Module]:
    """A module, and the modules of a router."""
    yield module
    if module.folder.count("/") > _DEEPEST:
        raise CheckpointError(f"{folder}: {module.folder} has routers in routers without end. {_REMEDY}")
    place = inside(folder, module.folder)
    names = [ROUTER_FILE] if module.kind == "Router" else ["config.json"] if module.kind == "Asym" else []
    for file in (file for name in names if (file := inside(place, name)).exists()):
        for path, kind in read_json(file, _Router, _REMEDY)["types"].items():
            below = _module(kind, f"{module.folder}/{path}" if module.folder else path)
            if below.folder == module.folder:
                raise CheckpointError(f"{file}: expected the folders of modules below it, found {path!r}. {_REMEDY}")
            yield from _with_parts(folder, below)


def _has_safetensors(folder: Path, module: Module) -> bool:
    return any(name.endswith(_SAFETENSORS) for name in files_of(inside(folder, module.folder)))


def _refuse_pickle(folder: Path, module: Module) -> None:
    place = inside(folder, module.folder)
    for name in (name for name in files_of(place) if name.endswith(_PICKLES)):
        raise CheckpointError(
            f"{place / name} has the weights of the module {module.kind}, as a pickle, which can run code and is never "
            "opened. Open the model with SentenceTransformer, and save it with save_pretrained."
        )
