"""Code that uses a model directory: with sentence-transformers, and with transformers alone."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_embed.encoder.manifest import Manifest, read_manifest
from lightning_embed.encoder.options import Pooling
from lightning_embed.errors import CheckpointError
from lightning_embed.storage.json_file import cached_json

_UNLIMITED = 10**9  # tokenizers without a limit of their own have 1e30
_QUERIES = ["Which planet is the largest?"]
_DOCUMENTS = ["Jupiter is the largest.", "Bread is baked in an oven."]
_MASK = '    mask = batch["attention_mask"].unsqueeze(-1)\n'
_POOLED = {
    Pooling.mean: _MASK + "    pooled = (hidden * mask).sum(1) / mask.sum(1)  # the mean of the tokens",
    Pooling.weighted_mean: _MASK
    + "    mask = mask * mask.cumsum(1)\n    pooled = (hidden * mask).sum(1) / mask.sum(1)  # later tokens weigh more",
    Pooling.max: _MASK + "    pooled = hidden.masked_fill(mask == 0, -torch.inf).amax(1)  # the largest of the tokens",
    Pooling.mean_sqrt_len: _MASK
    + "    pooled = (hidden * mask).sum(1) / mask.sum(1).sqrt()  # sum over root of length",
    Pooling.cls: "    pooled = hidden[:, 0]  # the first token",
    Pooling.last_token: '    last = batch["attention_mask"].sum(1) - 1\n'
    "    pooled = hidden[torch.arange(len(texts)), last]  # the last token",
}
_SENTENCE_TRANSFORMERS = """\
from sentence_transformers import SentenceTransformer

model = SentenceTransformer({load})
queries = model.encode({queries})
documents = model.encode({documents})
print(model.similarity(queries, documents))"""
_TRANSFORMERS = """\
import torch
from transformers import {auto}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained({path}{side}{trusted})
model = {auto}.from_pretrained({path}{dtype}{trusted}).eval()


@torch.inference_mode()
def embed(texts):
{lowercase}    options = dict(padding=True, truncation=True{max_length}, return_tensors="pt")
    batch = tokenizer(texts, **options)
    hidden = model(**batch).last_hidden_state
{pooled}
    return torch.nn.functional.normalize(pooled, dim=-1)


queries = embed({queries})
documents = embed({documents})
print(queries @ documents.T)"""


@dataclass(frozen=True)
class Usage:
    """The use of a model directory: facts from its files, and code.

    Args:
        path: the directory or hub name, as users write it.
        dim: of an embedding; None: not known.
        max_length: tokens of a text, special ones included; longer texts are cut; None: not known.
        prompts: name in sentence-transformers -> the text that is put before a text.
        default_prompt: name of the prompt for texts that are encoded without a prompt name.
        sentence_transformers: code.
        transformers: code; None: the directory has parts that this module cannot write down (a head, two poolings ...).
    """

    path: str
    dim: int | None
    max_length: int | None
    prompts: dict[str, str]
    default_prompt: str | None
    sentence_transformers: str
    transformers: str | None

    @classmethod
    def of(cls, folder: Path, path: str) -> "Usage":
        """Read a model directory.

        Args:
            folder: the directory.
            path: its name for users: a name on the hub, or a path.
        """
        try:
            manifest = read_manifest(str(folder))
            known = manifest.pooling is not None
        except CheckpointError:  # a merge needs only the weights, so it may have such models
            manifest, known = Manifest(), False
        config, tokenizer = _read(folder / "config.json"), _read(folder / "tokenizer_config.json")
        config_prompts: Any = manifest.prompts.to_sentence_transformers()
        prompts, default = config_prompts["prompts"], config_prompts["default_prompt_name"]
        max_length = manifest.max_length or _max_length(config, tokenizer)
        normalizes = (
            manifest.normalize and (folder / "modules.json").exists()
        )  # for a plain directory, sentence-transformers does not
        exact = _first(config, "dtype", "torch_dtype") in (None, "float32")
        trusted = ", trust_remote_code=True" if config.get("auto_map") or tokenizer.get("auto_map") else ""
        query, document = _roles(prompts)

        def texts(some: list[str], name: str | None) -> str:
            prompt = prompts.get(name or default, "")
            return json.dumps([prompt + text for text in some], ensure_ascii=False)

        def arguments(name: str | None) -> str:
            prompt = f", prompt_name={json.dumps(name, ensure_ascii=False)}" if name else ""
            return prompt + ("" if normalizes else ", normalize_embeddings=True")

        return cls(
            path,
            _first(config, "hidden_size", "dim", "d_model", "n_embd") if known else None,
            max_length,
            prompts,
            default,
            _SENTENCE_TRANSFORMERS.format(
                load=json.dumps(path) + trusted + ("" if exact else ', model_kwargs={"dtype": "float32"}'),
                queries=json.dumps(_QUERIES) + arguments(query),
                documents=json.dumps(_DOCUMENTS) + arguments(document),
            ),
            _TRANSFORMERS.format(
                path=json.dumps(path),
                auto=_auto(config),
                trusted=trusted,
                side=', padding_side="right"' if tokenizer.get("padding_side") == "left" else "",
                dtype="" if exact else ", dtype=torch.float32",
                lowercase="    texts = [text.lower() for text in texts]\n" if manifest.lowercase else "",
                max_length=f", max_length={max_length}" if max_length else "",
                pooled=_POOLED[manifest.pooling or Pooling.mean],
                queries=texts(_QUERIES, query),
                documents=texts(_DOCUMENTS, document),
            )
            if known
            else None,
        )


def _auto(config: Mapping[str, Any]) -> str:
    """The class that opens a model; AutoModel would add a decoder to T5's encoder."""
    classes = config.get("architectures") or [""]
    return "AutoModelForTextEncoding" if str(classes[0]).endswith("EncoderModel") else "AutoModel"


def _roles(prompts: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Names of the prompt for queries and of the matching one for documents; if none has a role, the first for both."""
    query = next((name for name in prompts if name.endswith("query")), None)
    document = next((name for name in prompts if name.endswith("document")), None)
    if query is not None:
        like = query.removesuffix("query") + "document"
        return query, like if like in prompts else None
    first = next(iter(prompts), None)
    return (None, document) if document else (first, first)


def _max_length(config: Mapping[str, Any], tokenizer: Mapping[str, Any]) -> int | None:
    """The limit of the tokenizer or of the positions, for a directory without a limit of its own."""
    limits = [tokenizer.get("model_max_length"), config.get("max_position_embeddings")]
    return min((n for n in limits if isinstance(n, int) and 0 < n < _UNLIMITED), default=None)


def _first(config: Mapping[str, Any], *names: str) -> Any:
    return next((config[name] for name in names if name in config), None)


def _read(file: Path) -> dict[str, Any]:
    """Facts of a file; those of a broken one, which is refused where the model is loaded, are not known."""
    return cached_json(file, dict) or {}
