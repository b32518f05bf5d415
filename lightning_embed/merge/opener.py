"""The protocol of an opener: all that a merge asks of the library which opens models.

`merge/` does not import transformers: `lightning_embed.encoder.opening` implements the protocol, and a run passes it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from lightning_embed.merge.checkpoint.conversion import Converter
from lightning_embed.merge.checkpoint.name_matching import Header


@runtime_checkable
class Opener(Converter, Protocol):
    """What a library that opens models knows about their directories."""

    def config(self, folder: Path) -> dict[str, Any]:
        """The config.json of a folder with the defaults of its class filled in.

        The entries of the file alone, if the library does not know the class or its code is in the folder; empty
        without a config.json.

        Raises:
            CheckpointError: the config.json cannot be read.
        """

    def token_ids(self, folder: Path, texts: Sequence[str]) -> list[list[int]] | None:
        """The token ids of texts by the tokenizer of a folder; None: the library cannot open it."""

    def fitted(self, config: Mapping[str, Any], header: Header) -> dict[str, Any]:
        """The entries to change in a config.json so that its class opens these tensors.

        Args:
            config: content of the file.
            header: dtype and shape of the tensors, by name.

        Raises:
            CheckpointMismatch: no class of the library opens them.
        """

    def complete(self, folder: Path) -> str | None:
        """Add what sentence-transformers needs to a directory without modules.json, and remark on it."""

    def check(self, folder: Path) -> str | None:
        """Open a model and encode a text.

        Returns:
            The reason why the model was not opened, as a sentence; None: it was.

        Raises:
            CheckpointError: it does not open, or its embedding is not finite.
        """
