"""The encoder: a backbone, and a head that makes one embedding of the states of a text."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from rich.progress import track
from torch import Tensor, nn
from torch.nn.functional import normalize

from lightning_embed.encoder.adapters import add_adapters, freeze_unused
from lightning_embed.encoder.backbone import load_backbone, load_tokenizer, prepare_layers, quiet
from lightning_embed.encoder.budget import fitting_tokens
from lightning_embed.encoder.chunk import Chunk, cut
from lightning_embed.encoder.dropout import draw_on_cpu
from lightning_embed.encoder.folding import save_folded
from lightning_embed.encoder.head import load_head
from lightning_embed.encoder.kernels.base import Call, Kernel, Needs
from lightning_embed.encoder.kernels.choice import can, choose
from lightning_embed.encoder.manifest import read_manifest, write_manifest
from lightning_embed.encoder.options import Dtype, EncoderOptions, KernelWord
from lightning_embed.encoder.packing import TEXTS
from lightning_embed.encoder.precision import compute_dtype
from lightning_embed.encoder.prompts import Role
from lightning_embed.encoder.trial import embedding_texts, try_out
from lightning_embed.encoder.uses import Uses
from lightning_embed.encoder.window import FULL, Window
from lightning_embed.errors import CheckpointError, ConfigError
from lightning_embed.runtime import fault_injection
from lightning_embed.runtime.finite import first_not_finite, not_finite_texts
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.storage.publish import published_folder
from lightning_embed.types import Embeddings, Task, Tokens


class Encoder(nn.Module):
    """Backbone and head: one embedding per text, L2-normalised by default.

    Texts run in chunks of `max_tokens` tokens, sorted by length: packed without padding where that is proved to give
    the same (packing.py), else padded. The cut affects speed and memory only.

    Parameters that get no gradient (BERT's pooler) are detected at construction and frozen; `save` keeps them. With
    adapters (`lora_rank`, `peft`), those train and all other weights of the backbone are frozen; `save` folds them.

    Args:
        options: the model and its execution.

    Raises:
        CheckpointError: the model cannot be loaded, or is not supported.
        ConfigError: an option that this model does not support.
    """

    def __init__(self, options: EncoderOptions) -> None:
        super().__init__()
        self.options = options
        self.shares: Callable[[Encoder, Tokens, Sequence[Tensor]], list[Tensor]] | None = (
            None  # shares them with others
        )
        self.began_in: Dtype | None = None  # what dtype=auto was where the training began that goes on here
        self._fitting: dict[torch.device, int] = {}
        self.agree: Callable[[int], int] = int  # the largest value of all ranks, where they run the model together
        self.manifest = read_manifest(options.path, options.revision)
        self.backbone, missing = load_backbone(options, self.manifest)
        self.tokenizer = load_tokenizer(options, self.manifest, self.backbone)
        self.head = load_head(options, self.manifest, self.backbone.config.get_text_config().hidden_size)
        self.tokenizer.counts_prompts = self.head.excludes_prompts
        self.prompts = self.manifest.prompts | options.prompts
        self._packing = try_out(options, self.backbone, self.tokenizer)
        self._check_kernel()
        prepare_layers(options, self.backbone)
        self.dim, unused = self._freeze_unused(missing)
        if options.is_adapted:
            add_adapters(self.backbone, options, unused)
            with self._evaluating():
                freeze_unused(self.backbone, self(self.tokenizer(TEXTS)).final, options)
        draw_on_cpu(self)

    @property
    def packed(self) -> bool:
        """Whether chunks run without padding."""
        return self._packing is not None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def compute_dtype(self, training: bool) -> torch.dtype:
        """The dtype of the backbone's computation, on the device of now."""
        began = self.began_in if training and self.options.dtype is Dtype.auto else None
        return compute_dtype(began or self.options.dtype, self.device, training)

    def named_weights(self) -> dict[str, nn.Parameter]:
        """The parameters by their names in a merge of saved directories: `2_Dense.linear.weight` of the head's Dense."""
        return {**dict(self.backbone.named_parameters()), **self.head.named_weights()}

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
        order = torch.cat(list(chunks)).argsort().to(self.device, non_blocking=True)
        middles = [part.middle for part in parts if part.middle is not None]
        return Embeddings(
            torch.cat([part.final for part in parts])[order], torch.cat(middles)[order] if middles else None
        )

    def chunks(self, tokens: Tokens) -> list[Int[Tensor, " _"]]:
        """Cut texts into chunks, longest first. Together they hold every text once.

        Ranks that run the model together get the same number: those with fewer texts, some without a text.
        """
        found = cut(tokens.lengths.tolist(), self.max_tokens, self.packed)
        missing = self.agree(len(found)) - len(found)
        return [torch.tensor(texts, dtype=torch.int64) for texts in (*found, *([] for _ in range(missing)))]

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
        """Embed one of `chunks(tokens)`, in the order of the chunk; `seed` seeds torch itself.

        A chunk without a text runs one word, so that the layers run, and its gradient is zero.
        """
        if len(chunk) == 0:
            word = self.tokenizer(TEXTS[-1:])
            run = self.forward_chunk(word, torch.tensor([0]), seed=seed, middle=middle)
            return Embeddings(run.final[:0], None if run.middle is None else run.middle[:0])
        if seed is not None:
            torch.manual_seed(seed)
        texts = Chunk.of(tokens, chunk, self.device)
        # as in sentence-transformers, where a weighted pooling of layers does nothing without this entry
        all_layers = self.head.needs_layers and self.backbone.config.output_hidden_states
        output = self._run(texts, output_hidden_states=middle or all_layers)
        layers = [texts.flatten(layer) for layer in output.hidden_states] if all_layers else None
        final = self.head(texts, texts.flatten(output.last_hidden_state), layers)
        if not middle:
            return Embeddings(final)
        half = texts.flatten(output.hidden_states[len(output.hidden_states) // 2])
        return Embeddings(final, self.head(texts, half))

    def _run(self, texts: Chunk, **options: Any) -> Any:
        dtype = self.compute_dtype(self.training)
        with torch.autocast(self.device.type, dtype, enabled=dtype is not torch.float32):
            if self._packing is not None:
                kernel = partial(self._kernel, self._packing.call, dtype)
                return texts.run_packed(self.backbone, self._packing.first_position, kernel, **options)
            return texts.run_padded(self.backbone, self.tokenizer.padding, **options)

    def _kernel(self, call: Call, dtype: torch.dtype, window: Window | None) -> Kernel:
        """The kernel of layers whose rule is a window, None: another one, on the device of now."""
        call = call if self.training else replace(call, dropout=0.0)
        needs, word = Needs(self.device.type, dtype, window, call), self.options.kernel
        # A model that trains in 16 bits encodes in float32, which the fast kernels do not have.
        return choose(word if self.training or can(word, needs) else KernelWord.auto, needs, self.options.path)

    def _check_kernel(self) -> None:
        """Refuse a kernel that cannot train this model on any device of this machine."""
        if self.options.kernel is KernelWord.auto:
            return
        if self._packing is None:
            raise ConfigError(
                f"encoder.kernel={self.options.kernel}: expected a model that runs packed, got {self.options.path}, "
                "whose texts run in padded rows. Leave the option out."
            )
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = compute_dtype(self.options.dtype, device, training=True)
        choose(self.options.kernel, Needs(device.type, dtype, FULL, self._packing.call), self.options.path)

    def prompt_for(self, task: Task, role: Role, dataset: str) -> str:
        """The prompt of a dataset's queries or documents; see `PromptSet.choose`."""
        return self.prompts.choose(task, role, dataset)

    def encode(
        self,
        sentences: str | Sequence[str],
        prompt_name: str | None = None,
        prompt: str | Sequence[str] | None = None,
        *,
        max_length: int | None = None,
        batch_size: int | None = None,  # noqa: ARG002
        show_progress_bar: bool = False,
        convert_to_numpy: bool = False,
        convert_to_tensor: bool = True,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
    ) -> Any:
        """Embed texts for inference: no dropout, no gradient, on the CPU, in float32; each distinct text runs once.

        The arguments are those of sentence-transformers; the result is a tensor unless asked for otherwise.

        Args:
            sentences: several texts, or one text, for which the result is one vector.
            prompt_name: name of one of the encoder's prompts, used where `prompt` is None.
            prompt: text put before every text, or one for each text.
            max_length: maximum number of tokens of a text, prompt and special tokens included; it can only lower the
                encoder's own. None: the encoder's.
            batch_size: not used: chunks are cut by `max_tokens`, so that no size has to be chosen.
            show_progress_bar: show a progress bar.
            convert_to_numpy: return a numpy array.
            convert_to_tensor: False: return a numpy array.
            normalize_embeddings: divide by the L2 norm, where the encoder does not.
            truncate_dim: keep the first numbers of an embedding only; None: as many as the directory says.

        Returns:
            (texts, dim), or (dim) for one text.

        Raises:
            ConfigError: no prompt of that name, or not as many prompts as texts.
            CheckpointError: NaN or infinity in an embedding.
        """
        texts = [sentences] if isinstance(sentences, str) else sentences
        before = self.prompts.named(prompt_name) if prompt is None else prompt
        prompts = [before] * len(texts) if isinstance(before, str) else before
        if len(prompts) != len(texts):
            raise ConfigError(
                f"encode: expected one prompt, or one for each of {len(texts)} texts, got {len(prompts)}."
            )
        asked = list(zip(prompts, texts, strict=True))
        distinct = {each: number for number, each in enumerate(dict.fromkeys(asked))}
        tokens = self.tokenizer([text for _, text in distinct], [own for own, _ in distinct], max_length)
        result, chunks = torch.empty(len(distinct), self.dim), self.chunks(tokens)
        parts = self.shares(self, tokens, chunks) if self.shares else self.infer(tokens, chunks, show_progress_bar)
        for chunk, part in zip(chunks, parts, strict=True):
            result[chunk] = part
        if problem := not_finite_texts(result, [text for _, text in distinct]):
            raise CheckpointError(f"{self.options.path}: {problem}")
        result = result[:, : truncate_dim or self.manifest.truncate_dim]
        if normalize_embeddings:
            result = normalize(result, dim=-1)
        result = result[0] if isinstance(sentences, str) else result[[distinct[each] for each in asked]]
        return result.numpy() if convert_to_numpy or not convert_to_tensor else result

    def infer(
        self, tokens: Tokens, chunks: Sequence[Int[Tensor, " _"]], show_progress_bar: bool = False
    ) -> list[Float[Tensor, "_ dim"]]:
        """Embed chunks: no dropout, no gradient, on the CPU."""
        with self._evaluating(), torch.inference_mode():
            shown = track(chunks, "encode", disable=not show_progress_bar)
            return [self.forward_chunk(tokens, chunk).final.cpu() for chunk in shown]

    def similarity(
        self, first: Float[Tensor, "rows dim"], second: Float[Tensor, "others dim"]
    ) -> Float[Tensor, "rows others"]:
        """The similarity of each pair of embeddings, by the function that the directory names (cosine)."""
        from sentence_transformers.util import SimilarityFunction

        compare: Any = SimilarityFunction.to_similarity_fn(self.manifest.similarity)
        found: Tensor = compare(first, second)
        return found

    @torch.inference_mode()
    def token_states(
        self, texts: Sequence[str], prompt: str | Sequence[str] = "", max_length: int | None = None
    ) -> list[Float[Tensor, "_ dim"]]:
        """Last hidden states of the tokens of each text: no dropout, no gradient, on the CPU, in float32."""
        tokens = self.tokenizer(texts, prompt, max_length)
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
            if self.options.is_adapted:
                save_folded(self.backbone, folder)
            else:
                self.backbone.save_pretrained(folder)
            self.tokenizer.save(folder)
            self.head.save(folder)
        manifest = replace(
            self.manifest,
            max_length=self.tokenizer.max_length,
            lowercase=self.tokenizer.lowercase,
            prompts=self.prompts,
        )
        write_manifest(folder, manifest, self.head.entries)
        for weights in folder.rglob("*.safetensors"):  # safetensors makes them private, whatever the umask
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
            return self._problem(self(self.tokenizer(TEXTS)).final)

    def _problem(self, embeddings: Float[Tensor, "texts dim"]) -> str | None:
        if name := first_not_finite(self.backbone) or first_not_finite(self.head):
            return f"{name} has NaN or infinity"
        return None if bool(embeddings.isfinite().all()) else "its embeddings of plain words have NaN or infinity"

    def _freeze_unused(self, missing: frozenset[str]) -> tuple[int, set[str]]:
        """Freeze parameters that get no gradient: DistributedDataParallel would wait for them for ever.

        Returns the length of an embedding, and the names of those parameters.
        """
        parameters = self.named_weights()
        self.eval()
        uses = Uses(self.backbone, self.head.named_weights(), frozen=self.options.is_adapted)
        with embedding_texts(self.options.path, self.backbone), uses:
            final = self(self.tokenizer(TEXTS)).final
        self.train()
        if problem := self._problem(final):
            raise CheckpointError(
                f"{self.options.path}: expected finite weights and embeddings, but {problem}. Copy or export it again; "
                "if a run of an earlier version left it, delete the folder: the same command trains it again."
            )
        unused = uses.unused(final)
        if lost := sorted(missing - unused):
            raise CheckpointError(
                f"{self.options.path}: {len(lost)} weights are not in the directory ({', '.join(lost[:3])} ...). "
                "Expected a complete model of the type that its config.json names; copy or export it again."
            )
        for name in unused & parameters.keys():
            parameters[name].requires_grad_(False)
        return int(final.shape[1]), unused
