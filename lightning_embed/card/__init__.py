"""Model cards: the README.md of every model that a run leaves, as the Hugging Face hub reads it."""

from lightning_embed.card.training import Training
from lightning_embed.card.write import write_cards

__all__ = ["Training", "write_cards"]
