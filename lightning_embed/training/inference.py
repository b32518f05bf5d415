"""The steps of a trained module: `forward`, `Trainer.predict`, `Trainer.test`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float, Int
from lightning import LightningModule
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from lightning_embed.data.whole_sets import TestBatch, TextBatch
from lightning_embed.encoder import Encoder
from lightning_embed.evaluation import Local, Shared
from lightning_embed.types import Tokens


@dataclass  # not frozen: Lightning moves the tensors of predictions
class Predicted:
    """Embeddings of texts of one dataset, on the CPU.

    Args:
        dataset: name of the dataset.
        row: the train row of each text, counted in the data module's rows.
        place: the place of each text in its row: 0 for the query, or the first text of a pair; then the others, in the
            order of the row's documents.
        embeddings: of the texts.
    """

    dataset: str
    row: Int[Tensor, " texts"]
    place: Int[Tensor, " texts"]
    embeddings: Float[Tensor, "texts dim"]


def in_order(predictions: Iterable[Any]) -> dict[str, Predicted]:
    """The predictions of each dataset, by row and place: of one rank, or of several, whatever their order.

    Args:
        predictions: what `Trainer.predict` returns, or several of its results: `Predicted`, in lists of any depth.
    """
    found: dict[str, list[Predicted]] = {}
    for part in _flat(predictions):
        found.setdefault(part.dataset, []).append(part)
    return {name: _joined(parts) for name, parts in found.items()}


def _flat(predictions: Any) -> list[Predicted]:
    return [predictions] if isinstance(predictions, Predicted) else list(chain.from_iterable(map(_flat, predictions)))


def _joined(parts: Sequence[Predicted]) -> Predicted:
    row, place = (torch.cat([getattr(part, name) for part in parts]) for name in ("row", "place"))
    order = (row * (place.max() + 1) + place).argsort()
    embeddings = torch.cat([part.embeddings for part in parts])
    return Predicted(parts[0].dataset, row[order], place[order], embeddings[order])


class Inference(LightningModule):
    """An encoder under Lightning's Trainer: embeddings, and scores on test sets."""

    encoder: Encoder

    def forward(self, texts: str | Sequence[str] | Tokens, prompt: str | None = None) -> Float[Tensor, "*texts dim"]:
        """Embed texts, on the module's device, with a gradient where torch records one.

        Args:
            texts: a text, for which the result is one vector; several texts; or tokens of the encoder's tokenizer.
            prompt: text put before every text; None: the encoder's default. Tokens have theirs already.
        """
        if isinstance(texts, Tokens):
            return self.encoder(texts).final  # type: ignore[no-any-return]
        given = [texts] if isinstance(texts, str) else list(texts)
        tokens = self.encoder.tokenizer(given, self.encoder.prompts.named(None) if prompt is None else prompt)
        final: Tensor = self.encoder(tokens).final
        return final[0] if isinstance(texts, str) else final

    def predict_step(self, batch: TextBatch | Sequence[str]) -> Predicted | Tensor:
        """Embed a batch of `EmbeddingDataModule.predict_dataloader`, or of a DataLoader of texts."""
        if not isinstance(batch, TextBatch):
            return self(batch).float().cpu()  # type: ignore[no-any-return]
        return Predicted(batch.dataset, batch.row.cpu(), batch.place.cpu(), self(batch.tokens).float().cpu())

    def test_step(self, batch: TestBatch) -> None:
        """Score the encoder on a test set, in points, as at the end of a run; all ranks encode it together."""
        with isolate_rng():  # mteb seeds all random generators when it creates a task
            (part,) = Local(splits=[batch.eval_set.split]).parts([batch.eval_set])
            score = part.run(Shared(self.encoder, self.device))
        self.log(f"{part.split}/{part.name}", score["score"], batch_size=1, on_epoch=True, on_step=False)
