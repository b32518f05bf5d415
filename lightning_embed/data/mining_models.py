"""The models of mining, as sentence-transformers opens them: an embedding model that finds, a cross-encoder that scores."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from lightning_embed.data.collator import RowPrompts
from lightning_embed.data.mining_options import MiningOptions
from lightning_embed.data.options import DatasetOptions
from lightning_embed.errors import ConfigError, results_of

_EMBEDDING, _CROSS = "an embedding model", "a cross-encoder with one score"


def check_models(options: MiningOptions) -> None:
    """Refuse models that are missing or of the wrong kind, by their small files; nothing is opened.

    sentence-transformers would open either kind as the other one, with new weights where some are missing.

    Raises:
        ConfigError: of all models in one message.
    """
    calls = {}
    if options.model is not None:
        calls["model"] = lambda: _check("mining.model", str(options.model), _EMBEDDING)
    if options.cross_encoder is not None:
        calls["cross_encoder"] = lambda: _check("mining.cross_encoder", str(options.cross_encoder), _CROSS)
    results_of(calls)


def _check(option: str, path: str, expected: str) -> None:
    settings, config = _file(path, "config_sentence_transformers.json"), _file(path, "config.json")
    modules = _file(path, "modules.json")
    if not any((settings, config, modules)):
        place = (
            "it has neither config.json nor modules.json"
            if Path(path).is_dir()
            else "no such folder is there, and no such model on the hub"
        )
        raise ConfigError(f"{option}={path}: expected {expected}, and {place}. Give its directory or hub name.")
    heads = [str(name) for name in config.get("architectures") or ()]
    labels = len(config.get("id2label") or {}) or 2  # transformers writes it unless there are two
    classifies = any(name.endswith("ForSequenceClassification") for name in heads)
    kind = settings.get("model_type") or ("CrossEncoder" if classifies else "SentenceTransformer" if modules else None)
    if kind is None:
        kind = "CrossEncoder" if any(name.endswith("ForCausalLM") for name in heads) else "SentenceTransformer"
    found = {"CrossEncoder": "a cross-encoder", "SentenceTransformer": "an embedding model"}.get(kind, f"a {kind}")
    if classifies and kind == "CrossEncoder" and labels != 1:
        found = f"a classifier of {labels} labels"
    if (expected, found) not in ((_EMBEDDING, "an embedding model"), (_CROSS, "a cross-encoder")):
        raise ConfigError(f"{option}={path}: expected {expected}, found {found}. Give another model.")


def _file(path: str, name: str) -> Any:
    """The content of a JSON file of a model; empty: it has none."""
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(path, name, _raise_exceptions_for_missing_entries=False)
        return json.loads(Path(found).read_text(encoding="utf-8")) if found else {}
    except (OSError, ValueError):  # no such folder or model, or no connection
        return {}


def open_embedder(path: str | Path, device: str | None) -> Any:
    """The embedding model in a directory or on the hub."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(path), device=device)


def open_cross_encoder(path: str, device: str | None) -> Any:
    """The cross-encoder in a directory or on the hub."""
    from sentence_transformers import CrossEncoder

    return CrossEncoder(path, device=device)


class Embedder:
    """An embedding model as the miner calls it, with prompts and lengths as in training.

    The miner hands over texts alone: a query is the key of its row.

    Args:
        model: the embedding model.
        options: options of the dataset.
        prompts: prompts of the dataset; None: those of the model. A row's own goes before them.
        rows: key of a query -> a row with it.
    """

    def __init__(
        self, model: Any, options: DatasetOptions, prompts: RowPrompts | None, rows: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.model, self.options, self.prompts, self.rows = model, options, prompts, rows
        self.longest = model.max_seq_length

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def encode_query(self, keys: Sequence[str], **how: Any) -> Float[np.ndarray, "queries dim"]:
        """Embed queries: one call for each prompt, because a pooling may leave its tokens out."""
        asked: dict[str | None, list[int]] = defaultdict(list)
        for place, key in enumerate(keys):
            own = self.rows[key].get("prompt")
            asked[self._query_prompt if own is None else own].append(place)
        self._cut_at(self.options.query_length)
        how["show_progress_bar"] = len(asked) == 1  # not one for each prompt
        parts = [
            self.model.encode_query([self.rows[keys[p]]["query"] for p in places], **{**how, "prompt": prompt})
            for prompt, places in asked.items()
        ]
        found: np.ndarray = np.concatenate(parts)[np.concatenate(list(asked.values())).argsort()]
        return found

    def encode_document(self, texts: Sequence[str], **how: Any) -> Any:
        """Embed documents."""
        self._cut_at(self.options.document_length)
        prompt = None if self.prompts is None else self.prompts.document
        return self.model.encode_document(texts, **{**how, "prompt": prompt})

    @property
    def _query_prompt(self) -> str | None:
        return None if self.prompts is None else self.prompts.query

    def _cut_at(self, tokens: int | None) -> None:
        lengths = [each for each in (tokens, self.longest) if each is not None]
        self.model.max_seq_length = min(lengths, default=None)


class Scorer:
    """A cross-encoder as the miner calls it, with the queries of rows for their keys.

    It reads a query and a document as they stand, up to its own maximum length: prompts are those of embedding models.

    Args:
        model: the cross-encoder.
        rows: key of a query -> a row with it.
    """

    def __init__(self, model: Any, rows: Mapping[str, Mapping[str, Any]]) -> None:
        self.model, self.rows = model, rows

    def predict(self, pairs: Sequence[tuple[str, str]], **how: Any) -> Any:
        """Scores of pairs of a key and a document."""
        return self.model.predict([(self.rows[key]["query"], text) for key, text in pairs], **how)
