"""Text in, embedding out: a Hugging Face backbone, pooling and normalisation."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_embed.encoder.encoder import Encoder as Encoder
    from lightning_embed.encoder.options import EncoderOptions as EncoderOptions

__all__ = ["Encoder", "EncoderOptions", "load"]


def load(path: str | Path) -> "Encoder":
    """Load a model as its directory (or hub name) describes it: pooling, normalisation, length and prompts.

    Raises:
        CheckpointError: the model cannot be loaded or represented.
    """
    from lightning_embed.encoder.encoder import Encoder
    from lightning_embed.encoder.manifest import read_manifest
    from lightning_embed.encoder.options import EncoderOptions

    return Encoder(EncoderOptions(str(path), normalize=read_manifest(str(path)).normalize))


def __getattr__(name: str) -> Any:
    # The options are needed to compose a command line; transformers, which the rest needs, takes seconds to import.
    if name == "Encoder":
        from lightning_embed.encoder.encoder import Encoder

        return Encoder
    if name == "EncoderOptions":
        from lightning_embed.encoder.options import EncoderOptions

        return EncoderOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
