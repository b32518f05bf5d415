"""Text in, embedding out: a Hugging Face backbone, pooling and normalisation."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_embed.encoder.encoder import Encoder as Encoder
    from lightning_embed.encoder.options import EncoderOptions as EncoderOptions

__all__ = ["Encoder", "EncoderOptions", "load"]


def load(path: str | Path) -> "Encoder":
    """Load a model with the pooling, normalisation, length and prompts of its directory or hub name.

    Raises:
        CheckpointError: the model cannot be loaded, or `Encoder` does not support it.
    """
    from lightning_embed.encoder.encoder import Encoder
    from lightning_embed.encoder.manifest import read_manifest
    from lightning_embed.encoder.options import EncoderOptions

    return Encoder(EncoderOptions(str(path), normalize=read_manifest(str(path)).normalize))


def __getattr__(name: str) -> Any:
    # Composing a command line needs the options; the rest imports transformers, which takes seconds.
    if name == "Encoder":
        from lightning_embed.encoder.encoder import Encoder

        return Encoder
    if name == "EncoderOptions":
        from lightning_embed.encoder.options import EncoderOptions

        return EncoderOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
