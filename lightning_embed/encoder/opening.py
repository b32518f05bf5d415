"""The opener of merged models, with transformers and sentence-transformers, which take seconds to import: in methods.

No code of a model's directory is run: a model with its own classes (`auto_map`) is neither compared nor opened.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lightning_embed.encoder.class_fitting import fitted_class
from lightning_embed.encoder.conversion import LibraryConverter
from lightning_embed.encoder.manifest import Manifest, write_manifest
from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.name_matching import Header
from lightning_embed.merge.checkpoint.weight_files import CONFIG_FILE
from lightning_embed.storage.json_file import read_json

_MODULES_FILE = "modules.json"
_MAX_BYTES = 2 * 10**9  # of the weights in float32; a larger model is not opened
_TEXT = "a few words"
_PLAIN = {"Transformer", "Pooling", "Normalize", "Dropout"}  # nothing in these can fail except for the Transformer
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model")


class TransformersOpener(LibraryConverter):
    """An `Opener` (see lightning_embed.merge.opener)."""

    def config(self, folder: Path) -> dict[str, Any]:
        """The config.json of a folder with the defaults of its class; its own code is not run."""
        stored = _stored(folder)
        if stored is None or _reason(stored) is not None:
            return stored or {}
        from transformers import CONFIG_MAPPING

        try:
            filled: dict[str, Any] = CONFIG_MAPPING[stored["model_type"]].from_dict(stored).to_dict()
        except Exception as error:  # of any class: each configuration checks its entries in its own way
            reason = str(error).strip().partition("\n")[0].rstrip(".:")
            raise CheckpointError(
                f"{folder / CONFIG_FILE}: {stored['model_type']} refuses its entries ({reason}). Copy the model again."
            ) from error
        return filled

    def token_ids(self, folder: Path, texts: Sequence[str]) -> list[list[int]] | None:
        """The token ids of texts; None: the tokenizer does not open, or is code of the folder."""
        from transformers import AutoTokenizer

        try:
            ids: list[list[int]] = AutoTokenizer.from_pretrained(folder, local_files_only=True)(list(texts))[
                "input_ids"
            ]
        except Exception:  # of any class: the tokenizers of the library read their files in many ways
            return None
        return ids

    def fitted(self, config: Mapping[str, Any], header: Header) -> dict[str, Any]:
        """The entries to change in a config.json so that its class opens these tensors: see `fitted_class`."""
        dtype = _true_dtype(config, header)
        return dtype if _reason(config) is not None else dtype | fitted_class(config, header)

    def complete(self, folder: Path) -> str | None:
        """Write a manifest with mean pooling and normalisation, as `Encoder` reads a directory without one."""
        stored = _stored(folder)
        if (folder / _MODULES_FILE).exists() or stored is None or _reason(stored) is not None:
            return None
        dim = self.config(folder).get("hidden_size") or self.config(folder).get("d_model")
        if not isinstance(dim, int) or not _has_tokenizer(folder):
            return None
        from lightning_embed.encoder.head import plain_head

        head = plain_head(dim)
        head.save(folder)
        write_manifest(folder, Manifest(), head.entries)
        return "No model has a modules.json: the merged one pools by the mean and normalises, as the encoder does then."

    def check(self, folder: Path) -> str | None:
        """Open a model and encode a text. Returns the reason why it was not opened, if it was not."""
        if (reason := _not_opened(folder)) is not None:
            return f"The merged model was not opened: {reason}."
        with _as_checkpoint_error(folder), _quiet(), torch.inference_mode():
            found = list(_embeddings(folder))
        if not all(bool(embedding.isfinite().all()) for embedding in found):
            raise CheckpointError(
                f"The merged model gives NaN or infinity for {_TEXT!r}. Use a different strategy, or out_dtype=float32."
            )
        return None


OPENER = TransformersOpener()


def _stored(folder: Path) -> dict[str, Any] | None:
    """The config.json of a folder; None: it has none."""
    if not (folder / CONFIG_FILE).exists():
        return None
    stored: dict[str, Any] = read_json(folder / CONFIG_FILE, dict, "Copy the model again.")
    return stored


def _reason(config: Mapping[str, Any]) -> str | None:
    """Why transformers cannot open a configuration; None: it can."""
    from transformers import CONFIG_MAPPING

    kind = config.get("model_type")
    if "AutoConfig" in (config.get("auto_map") or {}):
        return "its classes are code in its directory, which a merge does not run"
    return None if kind in CONFIG_MAPPING else f"this version of transformers has no model_type {kind!r}"


def _not_opened(folder: Path) -> str | None:
    """Why a directory is not opened; None: it is."""
    modules = _modules(folder)
    body = next((path for kind, path in modules if kind == "Transformer"), "")
    stored = _stored(folder / body)
    if stored is None and not modules:
        return f"it has no {CONFIG_FILE}"
    if stored is not None and (reason := _reason(stored)) is not None:
        return reason
    for name in (name for name, _ in _listed(folder) if not name.startswith("sentence_transformers.")):
        return f"its module {name} is code in its directory, which a merge does not run"
    size = sum(file.stat().st_size for file in folder.rglob("*.safetensors"))
    half = str((stored or {}).get("dtype")) in ("float16", "bfloat16")
    return "it is large; its tensors fit its configuration" if size * (1 + half) > _MAX_BYTES else None


def _listed(folder: Path) -> list[tuple[str, str]]:
    """Class and folder of the modules in modules.json."""
    file = folder / _MODULES_FILE
    entries = read_json(file, list[dict[str, Any]], "Copy it again.") if file.exists() else []
    return [(str(entry.get("type", "")), str(entry.get("path", ""))) for entry in entries]


def _modules(folder: Path) -> list[tuple[str, str]]:
    """Kind and folder of the modules."""
    return [(name.rpartition(".")[2], path) for name, path in _listed(folder)]


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).exists() for name in _TOKENIZER_FILES)


def _embeddings(folder: Path) -> Iterator[torch.Tensor]:
    """Embeddings of a text, by each route of a model."""
    kinds = [kind for kind, _ in _modules(folder)]
    if set(kinds) <= _PLAIN:
        yield from _hidden_states(folder / dict(_modules(folder)).get("Transformer", ""))
        return
    model = _sentence_transformer(folder)
    routes = [task for module in model for task in getattr(module, "sub_modules", {})]
    for route in routes or [None]:
        yield torch.as_tensor(
            model.encode(_TEXT, task=route, convert_to_tensor=True, show_progress_bar=False)
        ).to_dense()


def _sentence_transformer(folder: Path) -> Any:
    """The model, by the class that its configuration names."""
    import sentence_transformers

    file = folder / "config_sentence_transformers.json"
    stored = read_json(file, dict, "Copy it again.") if file.exists() else {}
    cls = getattr(sentence_transformers, str(stored.get("model_type", "SentenceTransformer")))
    return cls(str(folder), device="cpu", local_files_only=True)


def _hidden_states(folder: Path) -> Iterator[torch.Tensor]:
    """The hidden states of a text by a Hugging Face directory; none without a tokenizer."""
    from transformers import (
        MODEL_FOR_TEXT_ENCODING_MAPPING,
        AutoConfig,
        AutoModel,
        AutoModelForTextEncoding,
        AutoTokenizer,
    )

    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    auto = AutoModelForTextEncoding if type(config) in MODEL_FOR_TEXT_ENCODING_MAPPING else AutoModel  # T5's encoder
    model = auto.from_pretrained(folder, config=config, dtype=torch.float32, local_files_only=True).eval()
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    if not _has_tokenizer(folder):
        return
    tokens = AutoTokenizer.from_pretrained(folder, local_files_only=True)(_TEXT, return_tensors="pt")
    if tokens["input_ids"].numel() == 0:  # a tokenizer without the letters of the text
        return
    rows = model.get_input_embeddings().num_embeddings
    if (largest := int(tokens["input_ids"].max())) >= rows:
        raise CheckpointError(
            f"The tokenizer of the merged model gives the id {largest}, and the model has {rows} embeddings. "
            "Put the source with the right tokenizer first."
        )
    yield model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).last_hidden_state


def _true_dtype(config: Mapping[str, Any], header: Header) -> dict[str, Any]:
    """The dtype of most elements, where the configuration names a different one."""
    sizes: dict[str, int] = {}
    for info in header.values():
        if info.dtype.is_floating_point:
            name = str(info.dtype).removeprefix("torch.")
            sizes[name] = sizes.get(name, 0) + info.shape.numel()
    true = max(sizes, key=lambda name: sizes[name], default=None)
    stored = {config[key] for key in ("dtype", "torch_dtype") if config.get(key) is not None}
    return {"dtype": true} if true is not None and stored - {true} else {}


@contextmanager
def _as_checkpoint_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # the libraries raise errors of many types
        reason = str(error).strip().partition("\n")[0].replace(str(folder), "the merged model").rstrip(".")
        raise CheckpointError(
            f"The merged model does not open ({type(error).__name__}: {reason}). Open the first source with "
            "SentenceTransformer or AutoModel: where that fails too, export it again."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    from lightning_embed.encoder.backbone import quiet

    logger = logging.getLogger("sentence_transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with quiet():
            yield
    finally:
        logger.setLevel(level)
