"""Model cards: a README.md for every model that a run makes, in the Hugging Face hub's format."""

from lightning_embed.card.training import Training
from lightning_embed.card.write import write_cards

__all__ = ["Training", "write_cards"]
