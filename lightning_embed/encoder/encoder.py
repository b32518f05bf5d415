"""The encoder: backbone + pooling + normalisation."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import normalize

from lightning_embed.encoder.attention import FAMILIES, PACKED
from lightning_embed.encoder.backbone import load_backbone, load_tokenizer, quiet
from lightning_embed.encoder.budget import fitting_tokens
from lightning_embed.encoder.chunk import Chunk, cut
from lightning_embed.encoder.dropout import draw_on_cpu
from lightning_embed.encoder.lora import add_adapters, folded
from lightning_embed.encoder.manifest import Manifest, read_manifest, write_manifest
from lightning_embed.encoder.options import EncoderOptions, Pooling
from lightning_embed.encoder.pooling import pool
from lightning_embed.encoder.precision import compute_dtype
from lightning_embed.encoder.prompts import Role
from lightning_embed.errors import CheckpointError
from lightning_embed.runtime import fault_injection
from lightning_embed.runtime.finite import first_not_finite, not_finite_texts
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.storage.publish import published_folder
from lightning_embed.types import Embeddings, Task, Tokens

logger = logging.getLogger(__name__)

_TEXTS = ["a few words", "and a few more"]  # for a forward pass of any model


class Encoder(nn.Module):
    """Backbone, pooling and normalisation: one embedding per text, L2-normalised by default.

    Texts run in chunks of `max_tokens` tokens, sorted by length: packed without padding where the family supports
    it (`packed`), else padded. The cut affects speed and memory only.

    Parameters that get no gradient (BERT's pooler) are detected at construction and frozen; `save` keeps them. With a
    `lora_rank`, adapters train and all other weights are frozen; `save` folds the adapters into the weights.

    Args:
        options: the model and its execution.

    Raises:
        CheckpointError: the model cannot be loaded, or is not supported.
        ConfigError: an option that this model does not support.
    """

    def __init__(self, options: EncoderOptions) -> None:
        super().__init__()
        self.options = options
        self._fitting: dict[torch.device, int] = {}
        manifest = read_manifest(options.path, options.revision)
        self.backbone, missing = load_backbone(options, manifest)
        self.tokenizer = load_tokenizer(options, manifest, self.backbone)
        self.prompts = manifest.prompts | options.prompts
        self.pooling = manifest.pooling if options.pooling is Pooling.auto else options.pooling
        self._freeze_unused(missing)
        if options.lora_rank:
            add_adapters(self.backbone, options)
        draw_on_cpu(self.backbone)
        if self.backbone.config.model_type not in FAMILIES:
            _log_padded(options.path, self.backbone.config.model_type)

    @property
    def packed(self) -> bool:
        """Whether chunks run without padding."""
        return bool(self.backbone.config._attn_implementation == PACKED)

    @property
    def dim(self) -> int:
        """Length of an embedding."""
        return int(self.backbone.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def forward(self, tokens: Tokens, *, seed: int | None = None, middle: bool = False) -> Embeddings:
        """Embed texts, differentiably, in the order given.

        Args:
            tokens: the texts.
            seed: makes dropout a pure function of (seed, chunk): torch is seeded at the head of every chunk.
            middle: also pool and normalise the hidden states of the middle layer.
        """
        chunks = self.chunks(tokens)
        seeds = self.chunk_seeds(seed, len(chunks))
        parts = [self.forward_chunk(tokens, c, seed=s, middle=middle) for c, s in zip(chunks, seeds, strict=True)]
        return self.join(chunks, parts)

    def chunk_seeds(self, seed: int | None, num_chunks: int) -> list[int | None]:
        """The seed of every chunk of a forward pass with `seed`."""
        return [None if seed is None else derive_seed(seed, number) for number in range(num_chunks)]

    def join(self, chunks: Sequence[Int[Tensor, " _"]], parts: Sequence[Embeddings]) -> Embeddings:
        """The embeddings of chunks, in the order of the texts."""
        order = torch.cat(list(chunks)).argsort().to(self.device)
        middles = [part.middle for part in parts if part.middle is not None]
        return Embeddings(
            torch.cat([part.final for part in parts])[order], torch.cat(middles)[order] if middles else None
        )

    def chunks(self, tokens: Tokens) -> list[Int[Tensor, " _"]]:
        """Cut texts into chunks, longest first. Together they hold every text once."""
        lengths = tokens.lengths.tolist()
        return [torch.tensor(texts) for texts in cut(lengths, self.max_tokens, self.packed)]

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens of a chunk; for the option `auto`, computed once per device."""
        if not isinstance(self.options.max_tokens, str):
            return self.options.max_tokens
        if self.device not in self._fitting:
            self._fitting[self.device] = fitting_tokens(self)
        return self._fitting[self.device]

    def forward_chunk(
        self, tokens: Tokens, chunk: Int[Tensor, " texts"], *, seed: int | None = None, middle: bool = False
    ) -> Embeddings:
        """Embed one of `chunks(tokens)`, in the order of the chunk; `seed` seeds torch itself."""
        if seed is not None:
            torch.manual_seed(seed)
        texts = Chunk.of(tokens, chunk, self.device)
        output = self._run(texts, output_hidden_states=middle)
        final = self._embed(texts, output.last_hidden_state)
        layers = output.hidden_states if middle else None
        return Embeddings(final, self._embed(texts, layers[len(layers) // 2]) if layers else None)

    def _run(self, texts: Chunk, **options: Any) -> Any:
        dtype = compute_dtype(self.options.dtype, self.device, self.training)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not torch.float32):
            if self.packed:
                return texts.run_packed(self.backbone, **options)
            return texts.run_padded(self.backbone, self.tokenizer.padding, **options)

    def _embed(self, texts: Chunk, hidden: Float[Tensor, "rows width dim"]) -> Float[Tensor, "texts dim"]:
        pooled = pool(texts.flatten(hidden), texts.text, texts.position, texts.lengths, self.pooling)
        return normalize(pooled, dim=-1) if self.options.normalize else pooled

    def prompt_for(self, task: Task, role: Role, dataset: str) -> str:
        """The prompt of a dataset's queries or documents; see `PromptSet.choose`."""
        return self.prompts.choose(task, role, dataset)

    @torch.inference_mode()
    def encode(
        self,
        texts: str | Sequence[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        show_progress: bool = False,
    ) -> Float[Tensor, "*texts dim"]:
        """Embed texts for inference: no dropout, no gradient, on the CPU, in float32; each distinct text runs once.

        Args:
            texts: several texts, or one text, for which the result is one vector.
            prompt: text put before every text.
            prompt_name: name of one of the encoder's prompts, used where `prompt` is None.
            show_progress: show a progress bar.

        Raises:
            ConfigError: no prompt of that name.
            CheckpointError: NaN or infinity in an embedding.
        """
        distinct = {
            text: number for number, text in enumerate(dict.fromkeys([texts] if isinstance(texts, str) else texts))
        }
        tokens = self.tokenizer(list(distinct), self.prompts.named(prompt_name) if prompt is None else prompt)
        result = torch.empty(len(distinct), self.dim)
        with self._evaluating():
            for chunk in track(self.chunks(tokens), "encode", disable=not show_progress):
                result[chunk] = self.forward_chunk(tokens, chunk).final.cpu()
        if problem := not_finite_texts(result, list(distinct)):
            raise CheckpointError(f"{self.options.path}: {problem}")
        if isinstance(texts, str):
            return result[0]
        return result[[distinct[text] for text in texts]]

    @torch.inference_mode()
    def token_states(self, texts: Sequence[str], prompt: str = "") -> list[Float[Tensor, "_ dim"]]:
        """Last hidden states of the tokens of each text: no dropout, no gradient, on the CPU, in float32."""
        tokens = self.tokenizer(texts, prompt)
        states: dict[int, Tensor] = {}
        with self._evaluating():
            for chunk in self.chunks(tokens):
                part = Chunk.of(tokens, chunk, self.device)
                hidden = part.flatten(self._run(part).last_hidden_state).float().cpu()
                states.update(zip(chunk.tolist(), torch.split(hidden, part.sizes), strict=True))
        return [states[text] for text in range(len(texts))]

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        training = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(training)

    def save(self, path: str | Path) -> None:
        """Write a directory for `lightning_embed.load`, sentence-transformers and transformers' AutoModel.

        The same weights give the same bytes.

        Raises:
            CheckpointError: NaN or infinity in the weights, or in the embeddings that they give.
        """
        folder = Path(path)
        if problem := self.not_finite():
            raise CheckpointError(f"{folder} is not written: {problem}. A model needs finite weights: train it again.")
        folder.mkdir(parents=True, exist_ok=True)
        with quiet():
            self.backbone.save_pretrained(folder, state_dict=folded(self.backbone) if self.options.lora_rank else None)
            self.tokenizer.save(folder)
        manifest = Manifest(
            self.pooling, self.options.normalize, self.tokenizer.max_length, self.tokenizer.lowercase, self.prompts
        )
        write_manifest(folder, manifest, self.dim)
        for weights in folder.glob("*.safetensors"):  # safetensors makes them private, whatever the umask
            weights.chmod((folder / "modules.json").stat().st_mode)

    def export(self, target: Path) -> None:
        """Publish as `target`; an existing directory is a finished model, and is kept.

        Raises:
            CheckpointError: the disk is full.
        """
        if target.exists():
            return
        with published_folder(target, keep=True) as folder:  # another job of a sweep may be first
            self.save(folder)
            fault_injection.point("before_rename")

    def not_finite(self) -> str | None:
        """What has NaN or infinity, a weight or the embeddings of two texts, as a clause; None: nothing."""
        with torch.no_grad(), self._evaluating():
            return self._problem(self(self.tokenizer(_TEXTS)).final)

    def _problem(self, embeddings: Float[Tensor, "texts dim"]) -> str | None:
        if name := first_not_finite(self.backbone):
            return f"{name} has NaN or infinity"
        return None if bool(embeddings.isfinite().all()) else "its embeddings of plain words have NaN or infinity"

    def _freeze_unused(self, missing: frozenset[str]) -> None:
        """Freeze parameters that get no gradient: DistributedDataParallel would wait for them for ever."""
        parameters = dict(self.backbone.named_parameters())
        self.eval()
        final = self(self.tokenizer(_TEXTS)).final
        self.train()
        if problem := self._problem(final):
            raise CheckpointError(
                f"{self.options.path}: expected finite weights and embeddings, but {problem}. Copy or export it again; "
                "if a run of an earlier version left it, delete the folder: the same command trains it again."
            )
        gradients = torch.autograd.grad(final.sum(), list(parameters.values()), allow_unused=True)
        unused = {name for name, gradient in zip(parameters, gradients, strict=True) if gradient is None}
        if lost := sorted(missing - unused):
            raise CheckpointError(
                f"{self.options.path}: {len(lost)} weights are not in the directory ({', '.join(lost[:3])} ...). "
                "Expected a complete model of the type that its config.json names; copy or export it again."
            )
        for name in unused:
            parameters[name].requires_grad_(False)


@cache
def _log_padded(path: str, family: str) -> None:
    """Log once per process: a run opens a model many times."""
    logger.info("%s (%s) cannot run packed: its texts run in padded chunks of similar lengths.", path, family)
