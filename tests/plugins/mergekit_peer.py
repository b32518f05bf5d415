"""Run by the python of another environment: merge with MergeKit 0.1.5, one tensor at a time.

python mergekit_peer.py <jobs.json> <models.safetensors> <merged.safetensors>; prints {job/tensor: error} as JSON.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mergekit.merge_methods import merge_tensors
from safetensors.torch import load_file, save_file
from torch import Tensor

SEED = 7


def merge(method: str, sources: Sequence[Tensor], base: Tensor | None, parameters: Mapping[str, Any]) -> Tensor:
    """Merge one tensor; slerp calls its first source the base."""
    if base is not None:
        return merge_tensors([*sources, base], method, parameters=parameters, base_index=len(sources))
    return merge_tensors(list(sources), method, parameters=parameters, base_index=0 if method == "slerp" else None)


def masks(method: str, sources: Sequence[Tensor], base: Tensor, parameters: Mapping[str, Any]) -> Tensor:
    """What it keeps of each source: alone, they draw what they draw together."""
    torch.manual_seed(SEED)
    return torch.stack(
        [merge(method, [s], base, {**parameters, "weight": 1.0, "rescale": False}) != base for s in sources]
    )


def rescaled(method: str, sources: Tensor, base: Tensor, parameters: Mapping[str, Any], chances: Tensor) -> Tensor:
    """A random merge in which what is kept is divided by its chance: MergeKit's masks, and its way to combine."""
    torch.manual_seed(SEED)
    kept = masks(method, list(sources), base, parameters)
    torch.manual_seed(SEED)
    assert torch.equal(kept, torch.stack([torch.bernoulli(chance) for chance in chances]).bool()), "other chances"
    prepared = base + kept * (sources - base) / chances
    return torch.stack([merge(method, list(prepared), base, {**parameters, "density": 1.0}), *kept.float()])


def main(jobs: str, models: str, merged: str) -> None:
    """Do all jobs."""
    tensors, found, errors = load_file(models), {}, {}
    for job in json.loads(Path(jobs).read_text()):
        for name in job["tensors"]:
            sources = [tensors[f"{source}/{name}"] for source in job["sources"]]
            base = tensors[f"base/{name}"] if job["base"] else None
            key = f"{job['name']}/{name}"
            try:
                if job["random"]:
                    found[key] = rescaled(job["method"], torch.stack(sources), base, job["parameters"], tensors[key])
                else:
                    found[key] = merge(job["method"], sources, base, job["parameters"])
            except Exception as error:
                errors[key] = f"{type(error).__name__}: {error}"
    save_file({key: tensor.contiguous() for key, tensor in found.items()}, merged)
    print(json.dumps(errors))


main(*sys.argv[1:])
