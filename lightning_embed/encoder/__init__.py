"""Text in, embedding out: a Hugging Face backbone, pooling and normalisation."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_embed.encoder.encoder import Encoder as Encoder
    from lightning_embed.encoder.options import EncoderOptions as EncoderOptions

# It logs that a faster kernel is not installed, when peft imports it, when sentence-transformers imports that.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

__all__ = ["Encoder", "EncoderOptions", "load"]


def load(path: str | Path, *, trust_remote_code: bool = False) -> "Encoder":
    """Load a model with the pooling, normalisation, length and prompts of its directory or hub name.

    Args:
        path: the directory or hub name.
        trust_remote_code: run the Python code that comes with the model.

    Raises:
        CheckpointError: the model cannot be loaded, or `Encoder` does not support it.
    """
    from lightning_embed.encoder.encoder import Encoder
    from lightning_embed.encoder.manifest import read_manifest
    from lightning_embed.encoder.options import EncoderOptions

    normalize = read_manifest(str(path)).normalize
    return Encoder(EncoderOptions(str(path), normalize=normalize, trust_remote_code=trust_remote_code))


def __getattr__(name: str) -> Any:
    # Composing a command line needs the options; the rest imports transformers, which takes seconds.
    if name == "Encoder":
        from lightning_embed.encoder.encoder import Encoder

        return Encoder
    if name == "EncoderOptions":
        from lightning_embed.encoder.options import EncoderOptions

        return EncoderOptions
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
