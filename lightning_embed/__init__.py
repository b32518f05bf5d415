"""General text-embedding models: training on many tasks, merging, evaluation.

Public names load on first use: `load`, `Encoder`, `EmbeddingModule`, `EmbeddingDataModule`, `DatasetOptions`,
`load_datasets`, `register`, `Task`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from lightning_embed.data import DatasetOptions as DatasetOptions
    from lightning_embed.data import EmbeddingDataModule as EmbeddingDataModule
    from lightning_embed.data import load_datasets as load_datasets
    from lightning_embed.encoder import Encoder as Encoder
    from lightning_embed.encoder import load as load
    from lightning_embed.registry import register as register
    from lightning_embed.training.module import EmbeddingModule as EmbeddingModule
    from lightning_embed.types import Task as Task

_HOMES = {
    "DatasetOptions": "data",
    "EmbeddingDataModule": "data",
    "EmbeddingModule": "training.module",
    "Encoder": "encoder",
    "load": "encoder",
    "load_datasets": "data",
    "register": "registry",
    "Task": "types",
}

__all__ = [  # loaded by __getattr__
    "DatasetOptions",
    "EmbeddingDataModule",
    "EmbeddingModule",
    "Encoder",
    "Task",
    "load",
    "load_datasets",
    "register",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
