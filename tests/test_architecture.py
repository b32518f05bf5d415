"""Who may import whom: the layers as data, checked on the syntax tree of every module, lazy and TYPE_CHECKING imports included."""

import ast
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from lightning_embed import registry
from lightning_embed.loss.blocks import equal_to_any

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "lightning_embed"

# Bottom first. A file imports from its own room, and from rooms of the layers below.
LAYERS = (
    {"errors", "types", "registry", "runtime", "storage"},  # foundation
    {"loss", "sampler", "experts", "merge", "plugins"},  # methods: tensors in, numbers out
    {"encoder", "data", "evaluation", "report"},  # components
    {"config", "training", "callback"},  # wiring
    {"card", "logger", "sweep"},  # outputs
    {"run", "cli"},  # entry
)
INSIDE_A_LAYER = {
    ("cli", "run"),
    ("plugins", "merge"),
    ("registry", "errors"),
    ("storage", "errors"),
    ("storage", "runtime"),
}

# what may be imported from outside, anywhere in the room; None: anything
TORCH = {"torch", "jaxtyping", "numpy"}
EXTERNAL = {
    "loss": TORCH,
    "sampler": TORCH,
    "experts": TORCH | {"sklearn"},
    "merge": TORCH | {"safetensors"},
    "plugins": TORCH,
}
ONLY_IN = {
    "safetensors": {"merge.checkpoint", "encoder"},
    "torch.distributed": {"runtime.distributed", "runtime.shards", "storage.sharded_checkpoint"},
    "hydra.core.config_store": {"config.schema"},
    "wandb": {"logger.wandb"},
}


def _modules() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "plugins").glob("*.py")])


def _name(path: Path) -> str:
    """lightning_embed.merge.engine; of a package's __init__.py, the package."""
    below = path.relative_to(PACKAGE if path.is_relative_to(PACKAGE) else PACKAGE.parent).with_suffix("")
    return ".".join(["lightning_embed", *below.parts]).removesuffix(".__init__")


def _room(name: str) -> str:
    return name.split(".")[1]


def _imports(path: Path) -> set[str]:
    """What a file imports anywhere in it, from a package the name as well."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _graph() -> dict[str, set[str]]:
    """Module -> the modules of our own that it imports, the public face of the package and the entry points left out."""
    names = {_name(path) for path in _modules()}
    graph = {}
    for path in _modules():
        if (name := _name(path)) not in ("lightning_embed", "lightning_embed.__main__"):
            targets = {found if found in names else found.rpartition(".")[0] for found in _imports(path)}
            graph[name] = (targets & names) - {name, "lightning_embed"}
    return graph


def test_no_arrow_runs_upwards() -> None:
    floor = {room: number for number, rooms in enumerate(LAYERS) for room in rooms}
    graph = _graph()
    assert {_room(name) for name in graph} == set(floor), "every room stands in one layer"
    for name, targets in graph.items():
        for target in targets:
            one, other = _room(name), _room(target)
            allowed = one == other or (one, other) in INSIDE_A_LAYER or floor[one] > floor[other]
            assert allowed, f"{name} imports {target}"


def test_no_circles() -> None:
    graph, done = _graph(), set[str]()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join([*trail[trail.index(name) :], name])
        if name not in done:
            for target in sorted(graph[name]):
                walk(target, (*trail, name))
            done.add(name)

    for name in graph:
        walk(name, ())


def test_imports_of_others() -> None:
    for path in _modules():
        name = _name(path)
        room = _room(name) if name.count(".") else ""
        for found in _imports(path):
            top = found.partition(".")[0]
            if room in EXTERNAL and top != "lightning_embed" and top not in sys.stdlib_module_names:
                assert top in EXTERNAL[room], f"{name} imports {found}"
            for module, homes in ONLY_IN.items():
                if found == module or found.startswith(f"{module}."):
                    assert any(name.startswith(f"lightning_embed.{home}") for home in homes), f"{name} imports {module}"


def test_no_drawers() -> None:
    assert not [p for p in PACKAGE.rglob("*") if p.stem in ("utils", "util", "helpers", "common", "misc")]


def test_rooms_have_the_same_names_everywhere() -> None:
    """conf/, lightning_embed/ and tests/ mirror each other; every word of conf/ with a schema has its module."""
    root = PACKAGE.parent
    for room in ("loss", "sampler", "experts"):
        for module in (PACKAGE / room).glob("*.py"):
            text = module.read_text()
            if "@register(" in text:
                assert f'@register("{room}", "{module.stem}")' in text, f"{module.name} must register its own name"
    for plugin in (root / "plugins").glob("*.py"):
        if plugin.stem != "__init__":
            assert f'@register("merge", "{plugin.stem}")' in plugin.read_text()


def test_every_word_has_its_test_file() -> None:
    """A word's own properties stand in tests/<room>/test_<word>.py; the laws of the room are not enough."""
    folders = (f"{PACKAGE}/", f"{ROOT / 'plugins'}/")  # an installed package brings its own tests
    ours = [entry for room in registry.ROOMS for entry in registry.entries(room) if entry.origin.startswith(folders)]
    files = {f"{'plugins' if entry.room == 'merge' else entry.room}/test_{entry.name}.py" for entry in ours}
    assert {"plugins/test_soup.py", "sampler/test_mixed.py"} < files
    assert not sorted(file for file in files if not (ROOT / "tests" / file).exists())


def test_shapes_are_checked_while_the_tests_run() -> None:
    """By the list of rooms in pyproject.toml: a name mistyped there would switch the checks off without a word."""
    with pytest.raises(TypeCheckError):
        equal_to_any(torch.zeros(2, 3, 1, dtype=torch.long), torch.zeros(4, dtype=torch.long))
