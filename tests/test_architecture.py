"""Who may import whom: DESIGN's table as data, checked on the syntax tree of every module."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "lightning_embed"
LEAVES = {
    "errors",
    "registry",
    "types",
    "dist",
    "seeding",
    "fingerprint",
    "faults",
    "hashing",
    "naming",
    "writing",
    "jobs",
}

# room or module -> what it may import of lightning_embed, beside the leaves and itself
INTERNAL = {
    "errors": set(),
    "seeding": set(),
    "fingerprint": set(),
    "faults": set(),
    "hashing": set(),
    "naming": set(),
    "writing": set(),
    "jobs": set(),
    "dist": set(),
    "types": set(),
    "registry": {"errors"},
    "schedule": set(),
    "encoder": set(),
    "loss": set(),
    "sampler": set(),
    "experts": set(),
    "merge": set(),
    "plugins": {"merge"},
    "evaluation": set(),
    "report": set(),
    "data": {"sampler"},
    "callback": {"encoder", "evaluation", "report"},
    "caching": {"encoder"},
    "gathering": set(),
    "module": {"caching", "encoder", "gathering", "loss"},
    "measure": {"data", "encoder", "experts"},
    "manual": set(),
    "hub": set(),
    "card": {"build", "callback", "config", "data", "encoder", "experts", "merge", "provenance", "report"},
    "options": {"data.options", "merge"},
    "evaluating": {"config", "data.options"},
    "check": {"config", "hub", "evaluating", "options", "data.options", "encoder.options"},
    "config": {"manual", "options", "data.options", "encoder.options"},
    "start": {"cli"},
    "__main__": {"start"},
    "composing": {"check", "config", "sweeping"},
    "cli": {"composing", "config", "merging", "pipeline", "sweeping"},
    "sweeping": {"check", "config", "provenance"},
    "comparing": {"config", "report"},
    "logger": set(),
    "lineage": {"config", "merge"},
    "logbook": {"lineage", "merge", "report"},
    "build": {"config", "provenance", "options", "callback", "data", "encoder", "evaluation", "experts", "loss", "module"},
    "cost": {"experts"},
    "inspection": {"build", "data", "encoder", "experts"},
    "provenance": {"config"},
    "fitting": {"build", "inspection", "lineage", "logbook", "callback", "data", "experts", "module"},
    "preparing": {"build", "config", "data", "encoder", "experts", "fitting", "loss", "measure"},
    "probe": {"build", "config", "data", "encoder", "evaluation", "gathering", "loss", "report"},
    "examination": {"config", "merge", "options", "report"},
    "ending": {"build", "card", "config", "cost", "evaluating", "examination", "hub", "logbook", "merge", "report"},
    "merging": {"build", "comparing", "config", "ending", "evaluating", "examination", "hub", "merge", "probe", "provenance"},
    "pipeline": {
        "build", "card", "config", "cost", "ending", "hub", "report", "examination", "fitting", "inspection", "merging", "preparing", "provenance", "data", "encoder", "evaluation",
        "experts", "merge", "probe",
    },
}  # fmt: skip

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
    "safetensors": {"merge/checkpoint.py", "encoder"},
    "torch.distributed": {"dist.py"},
    "hydra.core.config_store": {"config.py"},
    "wandb": {"logger/wandb.py"},
}


def _modules() -> list[Path]:
    return sorted([*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "plugins").glob("*.py")])


def _room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts if path.is_relative_to(PACKAGE) else ("plugins",)
    return parts[0].removesuffix(".py")


def _imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def _id(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


@pytest.mark.parametrize("path", _modules(), ids=_id)
def test_imports_of_our_own(path: Path) -> None:
    room = _room(path)
    if room == "__init__":
        return
    allowed = LEAVES | INTERNAL[room] | {room} | ({"__version__"})
    for name in _imports(path):
        if name.startswith("lightning_embed"):
            target = name.removeprefix("lightning_embed").removeprefix(".")
            assert any(target == word or target.startswith(f"{word}.") for word in allowed), (
                f"{_id(path)} imports {name}"
            )


@pytest.mark.parametrize("path", _modules(), ids=_id)
def test_imports_of_others(path: Path) -> None:
    import sys

    room = _room(path)
    for name in _imports(path):
        top = name.partition(".")[0]
        if room in EXTERNAL and top != "lightning_embed" and top not in sys.stdlib_module_names:
            assert top in EXTERNAL[room], f"{_id(path)} imports {name}"
        for module, homes in ONLY_IN.items():
            if name == module or name.startswith(f"{module}."):
                where = str(path.relative_to(PACKAGE)) if path.is_relative_to(PACKAGE) else "plugins"
                assert any(where.startswith(home) for home in homes), f"{_id(path)} imports {module}"


def test_every_room_is_in_the_table() -> None:
    rooms = {_room(path) for path in _modules()} - {"__init__"}
    assert rooms == set(INTERNAL)


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
