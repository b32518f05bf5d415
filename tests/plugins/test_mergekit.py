"""Beside MergeKit 0.1.5, where it computes what we do: in an environment of its own, never in ours.

LIGHTNING_EMBED_PEERS=<a python that has mergekit 0.1.5> pytest tests/plugins/test_mergekit.py

A method is a line in `ROWS`. Where the two must differ, the page of the strategy says so, and `THEIRS` shows it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lightning_embed.merge import Combine, Of, RowGranularity, TensorGranularity, Weighting
from tests.merge import toy
from tests.plugins import block
from tests.reference import task_vectors as reference

PEERS = "LIGHTNING_EMBED_PEERS"
pytestmark = pytest.mark.skipif(PEERS not in os.environ, reason=f"{PEERS} does not name a python that has mergekit")

SHAPES = {"matrix": (8, 24), "vector": (64,), "convolution": (6, 4, 3), "one": (1,), "still": (16,)}
W = [1.0, 2.0, 0.5]
PAIR = [1.0, 3.0]
DENSITY, EPSILON = 0.5, 0.15


@dataclass(frozen=True)
class Row:
    """One merge in the words of both sides.

    Args:
        word: ours, with `options` and `weights`.
        method: theirs, with `parameters`.
        base: whether it works on deltas.
        count: of sources.
        leaves: tensors on which the two differ; the page of the strategy says why.
    """

    word: str
    options: Mapping[str, Any]
    weights: Sequence[float] | None
    method: str
    parameters: Mapping[str, Any]
    base: bool = True
    count: int = 3
    leaves: Sequence[str] = ()


ON_WEIGHTS = {"of": Of.weights, "granularity": RowGranularity.tensor}
ON_DELTAS = {"of": Of.delta, "granularity": RowGranularity.tensor}
BAND = {"density": 0.75, "gamma": 0.125}
MEAN = {"weight": W, "normalize": True}
IN_TENSORS = {"threshold": 1.0, "rescale": 0.4, "max_ratio": 0.3, "granularity": TensorGranularity.tensor}
ROWS = [
    Row("soup", {}, W, "linear", {"weight": W}, base=False),
    Row("slerp", ON_WEIGHTS, PAIR, "slerp", {"t": 0.75}, base=False, count=2),
    Row("nuslerp", ON_WEIGHTS, PAIR, "nuslerp", {"weight": PAIR}, base=False, count=2),
    Row("nuslerp", ON_DELTAS, PAIR, "nuslerp", {"weight": PAIR}, count=2),
    Row("multislerp", ON_WEIGHTS, W, "multislerp", {"weight": W}, base=False, leaves=["still"]),
    Row("multislerp", ON_DELTAS, W, "multislerp", {"weight": W}, leaves=["still"]),
    Row("karcher", ON_WEIGHTS, None, "karcher", {"max_iter": 100, "tol": 1e-7}, base=False),
    Row("task_arithmetic", {"scale": 0.7}, W, "task_arithmetic", {"weight": W, "lambda": 0.7}),
    Row("ties", {"density": 0.25}, W, "ties", {"weight": W, "density": 0.25}),
    Row("ties", {"density": 0.5, "scale": 1.3}, None, "ties", {"weight": 1.0, "density": 0.5, "lambda": 1.3}),
    Row("breadcrumbs", BAND, W, "breadcrumbs", {**MEAN, **BAND}, leaves=["one"]),
    Row("breadcrumbs", {**BAND, "combine": Combine.ties}, W, "breadcrumbs_ties", {**MEAN, **BAND}, leaves=["one"]),
    Row("sce", {"density": 0.25}, None, "sce", {"select_topk": 0.25}, leaves=["one"]),
    Row("sce", {"density": 1.0}, None, "sce", {"select_topk": 1.0}),
    Row("model_stock", {}, None, "model_stock", {}),
    Row("nearswap", {"limit": 0.5}, None, "nearswap", {"t": 0.5}, count=1),
    Row("nearswap", {"limit": 1e-4}, None, "nearswap", {"t": 1e-4}, count=1),
    Row("arcee_fusion", {}, None, "arcee_fusion", {}, count=1),
    Row("ram", {"threshold": 1.0, "rescale": 0.0}, None, "ram", {"epsilon": 1.0}),
    Row("ram", IN_TENSORS, None, "ramplus_tl", {"epsilon": 1.0, "r": 0.4, "alpha": 0.3}),
    Row("dare", {"density": 1.0}, W, "dare_linear", {**MEAN, "density": 1.0}),
    Row("dare", {"density": 1.0, "combine": Combine.ties}, W, "dare_ties", {**MEAN, "density": 1.0}),
]
KEPT = {"density": DENSITY}
RANKED = {"density": DENSITY, "epsilon": EPSILON}
RANDOM_ROWS = [
    Row("dare", {**KEPT, "combine": Combine.linear}, W, "dare_linear", {**MEAN, **KEPT}),
    Row("dare", {**KEPT, "combine": Combine.ties}, W, "dare_ties", {**MEAN, **KEPT}),
    Row("della", {**RANKED, "combine": Combine.linear}, W, "della_linear", {**MEAN, **RANKED}),
    Row("della", {**RANKED, "combine": Combine.ties}, W, "della", {**MEAN, **RANKED}),
]
# method, parameters, tensor of the sources that moved little -> what happens there: an error, or the base
THEIRS = [
    ("breadcrumbs", {"weight": 1.0, "density": 0.9}, "one", "base"),
    ("sce", {"select_topk": 0.5}, "one", "base"),
    ("multislerp", {"weight": 1.0}, "still", "ValueError"),
    ("della", {"weight": 1.0, "density": 0.5}, "one", "RuntimeError"),
    ("model_stock", {}, "matrix", "base"),
]
ALL = [*ROWS, *RANDOM_ROWS]


@dataclass
class Peer:
    """What MergeKit made of all rows."""

    merged: Mapping[str, Tensor] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture(scope="module")
def models() -> dict[str, dict[str, Tensor]]:
    """A base, sources that went far from it in directions of their own, and sources that hardly moved."""
    generator = torch.Generator().manual_seed(0)
    base = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    base |= {"one": torch.tensor([1.0]), "still": torch.zeros(16)}
    found = {"base": base}
    common = {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
    for number in range(3):
        away = {name: common[name] + torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}
        away |= {"one": torch.tensor([number + 1.0]), "still": torch.zeros(16)}
        found[f"s{number}"] = {name: base[name] + away[name] for name in SHAPES}
        found[f"near{number}"] = {name: base[name] + 1e-5 * away[name] for name in SHAPES}
    return found


@pytest.fixture(scope="module")
def peer(models: Mapping[str, Mapping[str, Tensor]], tmp_path_factory: pytest.TempPathFactory) -> Peer:
    folder = tmp_path_factory.mktemp("mergekit")
    tensors = {f"{model}/{name}": tensor for model, named in models.items() for name, tensor in named.items()}
    tensors |= {f"{number}/matrix": _chances(row, models) for number, row in enumerate(ALL) if row in RANDOM_ROWS}
    save_file(tensors, folder / "models.safetensors")
    jobs = [_job(str(number), row) for number, row in enumerate(ALL)]
    for number, (method, parameters, name, _) in enumerate(THEIRS):
        sources = [f"near{source}" for source in range(3)]
        own = {"name": f"theirs{number}", "method": method, "parameters": parameters, "tensors": [name]}
        jobs.append({**own, "sources": sources, "base": True, "random": False})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    script = Path(__file__).with_name("mergekit_peer.py")
    command = [os.environ[PEERS], str(script), "jobs.json", "models.safetensors", "merged.safetensors"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return Peer(load_file(folder / "merged.safetensors"), json.loads(done.stdout.splitlines()[-1]))


def _job(name: str, row: Row) -> dict[str, Any]:
    return {
        "name": name,
        "method": row.method,
        "parameters": dict(row.parameters),
        "tensors": ["matrix"] if row in RANDOM_ROWS else [tensor for tensor in SHAPES if tensor not in row.leaves],
        "sources": [f"s{number}" for number in range(row.count)],
        "base": row.base,
        "random": row in RANDOM_ROWS,
    }


def _chances(row: Row, models: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
    """The probability of every element to be kept, as our reference has it."""
    deltas = _deltas(models)
    if "epsilon" not in row.options:
        return torch.full_like(deltas, DENSITY)
    rows = [reference.keep_chances(line, DENSITY, EPSILON) for delta in deltas for line in delta]
    return torch.stack(rows).view_as(deltas).float()


def _deltas(models: Mapping[str, Mapping[str, Tensor]]) -> Tensor:
    return torch.stack([models[f"s{number}"]["matrix"] - models["base"]["matrix"] for number in range(3)])


def _ours(row: Row) -> Any:
    given = {"weighting": Weighting.given, "weights": list(row.weights)} if row.weights else {}
    return toy.strategy(row.word, **row.options, **given)


def _id(row: Row) -> str:
    return " ".join([row.method, *(f"{key}={value}" for key, value in row.parameters.items())])


@pytest.mark.parametrize("number", range(len(ROWS)), ids=map(_id, ROWS))
def test_equal(number: int, models: Mapping[str, dict[str, Tensor]], peer: Peer, tmp_path: Path) -> None:
    row = ROWS[number]
    base = models["base"] if row.base else None
    merged = toy.merge(tmp_path, _ours(row), [models[f"s{source}"] for source in range(row.count)], base)
    for name in SHAPES:
        if name not in row.leaves:
            theirs = peer.merged[f"{number}/{name}"]
            torch.testing.assert_close(merged[name], theirs, rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("number", range(len(ROWS), len(ALL)), ids=map(_id, RANDOM_ROWS))
def test_equal_with_the_same_mask(
    number: int, models: Mapping[str, Mapping[str, Tensor]], peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, *kept = peer.merged[f"{number}/matrix"]
    assert 0.4 < float(torch.stack(kept).mean()) < 0.6
    ours = _ours(ALL[number])
    # 0 is below every chance, 1 is not
    monkeypatch.setattr(sys.modules[type(ours).__module__], "uniform", lambda *_: 1 - torch.stack(kept))
    merged = models["base"]["matrix"] + block.merge(ours, _deltas(models))
    torch.testing.assert_close(merged, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("number", range(len(THEIRS)), ids=[method for method, *_ in THEIRS])
def test_what_the_pages_say_of_theirs(number: int, models: Mapping[str, dict[str, Tensor]], peer: Peer) -> None:
    method, _, name, outcome = THEIRS[number]
    key = f"theirs{number}/{name}"
    if outcome != "base":
        assert peer.errors[key].startswith(outcome)
        return
    moved = (models["near0"][name] - models["base"][name]).norm()
    assert (peer.merged[key] - models["base"][name]).norm() < 0.1 * moved, method


def test_no_errors_elsewhere(peer: Peer) -> None:
    assert {key for key in peer.errors if not key.startswith("theirs")} == set()
