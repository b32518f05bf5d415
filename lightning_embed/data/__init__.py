"""Data: rows from files and hub datasets, batches of distinct texts from rows. Public names load on first use."""

from typing import TYPE_CHECKING, Any

from lightning_embed.data.options import DatasetOptions as DatasetOptions
from lightning_embed.data.options import Format as Format

if TYPE_CHECKING:
    from lightning_embed.data.datamodule import EmbeddingDataModule as EmbeddingDataModule
    from lightning_embed.data.dataset import EmbeddingDataset as EmbeddingDataset
    from lightning_embed.data.dataset import load_datasets as load_datasets


def __getattr__(name: str) -> Any:
    if name == "EmbeddingDataModule":
        from lightning_embed.data.datamodule import EmbeddingDataModule

        return EmbeddingDataModule
    if name in ("EmbeddingDataset", "load_datasets"):
        from lightning_embed.data import dataset

        return getattr(dataset, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
