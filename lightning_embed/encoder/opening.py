"""The opener of merged models, with transformers and sentence-transformers, which are imported by the methods."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_embed.storage.json_file import read_json

CONFIG_FILE = "config.json"


class TransformersOpener:
    """An `Opener` (see lightning_embed.merge.opener)."""

    def config(self, folder: Path) -> dict[str, Any]:
        """The config.json of a folder with the defaults of its class; its own code is not run."""
        if not (folder / CONFIG_FILE).exists():
            return {}
        stored: dict[str, Any] = read_json(folder / CONFIG_FILE, dict, "Copy the model again.")
        from transformers import CONFIG_MAPPING

        kind = stored.get("model_type")
        if kind not in CONFIG_MAPPING or "AutoConfig" in stored.get("auto_map", {}):
            return stored
        filled: dict[str, Any] = CONFIG_MAPPING[kind].from_dict(stored).to_dict()
        return filled

    def token_ids(self, folder: Path, texts: Sequence[str]) -> list[list[int]] | None:
        """The token ids of texts; None: the tokenizer does not open, or runs code of the folder."""
        from transformers import AutoTokenizer

        try:
            ids: list[list[int]] = AutoTokenizer.from_pretrained(folder, local_files_only=True)(list(texts))["input_ids"]
        except Exception:  # of any class: the tokenizers of the library read their files in many ways
            return None
        return ids
