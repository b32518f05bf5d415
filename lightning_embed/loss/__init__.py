"""Losses: embeddings in, `LossOutput(value, logs)` out. Pure mathematics; one registered class per file."""

from lightning_embed.loss.base import Loss as Loss
