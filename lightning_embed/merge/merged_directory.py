"""The directory of a merged model around its weights: layout, configuration and files, completed and opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lightning_embed.merge.checkpoint.companions import (
    chosen_files,
    companions,
    copy_files,
    lender,
    read_config,
)
from lightning_embed.merge.checkpoint.modules import Layout, Module
from lightning_embed.merge.checkpoint.name_matching import Header, TensorInfo
from lightning_embed.merge.checkpoint.reader import ModelDirectory
from lightning_embed.merge.checkpoint.vocabulary import vocabulary_entries
from lightning_embed.merge.checkpoint.weight_files import CONFIG_FILE
from lightning_embed.merge.contract import Vocabulary
from lightning_embed.merge.opener import Opener
from lightning_embed.storage.checksum import sha256

Fitted = dict[str, dict[str, Any]]
"""Path of a configuration -> entries to change in it."""


@dataclass(frozen=True)
class MergedDirectory:
    """The directory of a merged model.

    Args:
        models: the sources, then the base, under their common names.
        dtype: of the merged weights; None: those of the first source.
        opener: opens the result; None: it is not opened.
        vocabulary: model whose tokenizer the result has; None: the first source.
    """

    models: Sequence[ModelDirectory]
    dtype: torch.dtype | None
    opener: Opener | None
    vocabulary: Vocabulary | None = None

    @cached_property
    def layout(self) -> Layout:
        """The layout: that of the first model with a modules.json, or plain."""
        return lender(self.models).layout

    @property
    def modules_of(self) -> str | None:
        """The model whose modules.json the result has, if it is not the first source."""
        owner = lender(self.models)
        return None if owner is self.models[0] else owner.name

    def fitted(self, header: Header, known: Fitted | None) -> Fitted | None:
        """The changes of configurations that open the merged tensors; None: not compared.

        Args:
            header: of the merged tensors.
            known: the changes of an earlier merge of the same models.

        Raises:
            CheckpointMismatch: no configuration opens them.
        """
        if known is not None or self.opener is None:
            return known
        return {
            path: self.opener.fitted(config, self._own(header, module))
            for module, (path, config) in self._configs.items()
        }

    def complete(self, folder: Path, fitted: Fitted | None) -> tuple[dict[str, str], list[str]]:
        """Write the files beside the weights, and open the model.

        Returns path -> SHA-256 of the files, and remarks.

        Args:
            folder: of the merged weights.
            fitted: changes of configurations.

        Raises:
            CheckpointError: the model does not open.
        """
        dtype = {} if self.dtype is None else {"dtype": str(self.dtype).removeprefix("torch.")}
        changes = {
            path: {**dtype, **self._of_vocabulary(path), **(fitted or {}).get(path, {})}
            for path, _ in self._configs.values()
        }
        copy_files(self._files, folder, changes)
        remarks = [] if self.opener is None else [self.opener.complete(folder), self.opener.check(folder)]
        weights = (".safetensors", ".safetensors.index.json")
        written = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(weights))
        return {str(path.relative_to(folder)): sha256(path) for path in written}, [text for text in remarks if text]

    @cached_property
    def _files(self) -> dict[str, Path]:
        return chosen_files(self.models, self.vocabulary)

    def _of_vocabulary(self, path: str) -> dict[str, Any]:
        """The entries of a configuration that describe a vocabulary which is not that of the first source."""
        if self.vocabulary is not Vocabulary.base or path != self._body_config:
            return {}
        file = companions(self.models[-1]).body.get(CONFIG_FILE)
        return {} if file is None else vocabulary_entries(read_config(file))

    @property
    def _body_config(self) -> str:
        return (Path(self.layout.body) / CONFIG_FILE).as_posix()

    @cached_property
    def _configs(self) -> dict[Module, tuple[str, dict[str, Any]]]:
        """Path and content of the config.json of the body, and of other Transformers."""
        paths = {module: (Path(module.folder) / CONFIG_FILE).as_posix() for module in self.layout.weights}
        read = {m: (path, read_config(self._files[path])) for m, path in paths.items() if path in self._files}
        return {module: found for module, found in read.items() if not module.kind or "model_type" in found[1]}

    def _own(self, header: Header, module: Module) -> dict[str, TensorInfo]:
        return {name.removeprefix(module.prefix): header[name] for name in self.layout.names_of(module, header)}
