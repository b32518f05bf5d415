"""Throughput of a training."""

import time
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from lightning_embed.encoder import Encoder
from lightning_embed.encoder.chunk import cut
from lightning_embed.types import Batch, Tokens


class Throughput(Callback):
    """Logs, per step: texts/s and tokens/s of all ranks (no padding), share of padding, index of the dataset.

    `throughput/texts_per_second` counts every text of every role; a text that is encoded once for two rows
    counts twice. `throughput/padding_share` is the share of the encoded tokens that were padding, in [0, 1].
    `throughput/dataset` numbers the datasets in the order of the config.
    """

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: tuple[Batch, ...], batch_idx: int
    ) -> None:
        """Log one step."""
        seconds = time.perf_counter() - self._start
        real = sum(len(part.tokens.ids) for part in batch)
        encoder: Any = pl_module.encoder
        run = sum(_tokens_run(encoder, part.tokens) for part in batch)
        texts = sum(part.num_texts for part in batch)
        numbers = list(trainer.datamodule.train_rows)  # type: ignore[attr-defined]
        values = {
            "throughput/texts_per_second": texts * trainer.world_size / seconds,
            "throughput/tokens_per_second": real * trainer.world_size / seconds,
            "throughput/padding_share": 1 - real / run,
            "throughput/dataset": float(numbers.index(batch[0].dataset)),
        }
        # as tensors of the CPU: Lightning would copy numbers to a GPU and wait for it
        pl_module.log_dict({name: torch.tensor(value) for name, value in values.items()})


def _tokens_run(encoder: Encoder, tokens: Tokens) -> int:
    """Tokens that the encoder processed, padding included."""
    if encoder.packed:
        return len(tokens.ids)
    lengths = tokens.lengths.tolist()
    return sum(len(texts) * lengths[texts[0]] for texts in cut(lengths, encoder.max_tokens, packed=False))
