"""The head of an encoder: sentence-transformers' own modules after the Transformer, run on texts without padding."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_embed.encoder.chunk import Chunk, moved
from lightning_embed.encoder.library import modules as library
from lightning_embed.encoder.manifest import HEAD, STATIC, Manifest, ModuleEntry, mode_of, write_pooling
from lightning_embed.encoder.options import EncoderOptions, Pooling
from lightning_embed.errors import CheckpointError, ConfigError

_TOKENS, _TEXT, _LAYERS = "token_embeddings", "sentence_embedding", "all_layer_embeddings"


class Head(nn.Module):
    """Pooling, and what follows it, of the texts of a chunk, in float32 at least.

    Pooling is done by sentence-transformers: mean, cls, max, the last token, the mean weighted by position (Muennighoff
    2022, SGPT, arXiv 2202.08904), the sum over the root of the length, or several of them side by side; with
    `include_prompt: false` without the tokens of the prompt.

    Args:
        modules: (folder in the saved directory, module of sentence-transformers), in their order. One without a folder
            is not saved: the mean of a StaticEmbedding is part of that module.
    """

    def __init__(self, modules: Sequence[tuple[str, nn.Module]]) -> None:
        super().__init__()
        self.folders = [folder for folder, _ in modules]
        self.steps = nn.Sequential(*(module for _, module in modules))

    @property
    def excludes_prompts(self) -> bool:
        """Whether a pooling leaves out the tokens of the prompt."""
        return any(isinstance(step, library.Pooling) and not step.include_prompt for step in self.steps)

    @property
    def needs_layers(self) -> bool:
        """Whether it reads the states of all layers, where the backbone's `output_hidden_states` gives them."""
        return any(isinstance(step, library.WeightedLayerPooling) for step in self.steps)

    @property
    def entries(self) -> list[ModuleEntry]:
        """The modules, as modules.json lists them."""
        steps = zip(self.steps, self.folders, strict=True)
        return [ModuleEntry(type(step).__name__, folder) for step, folder in steps if folder]

    def named_weights(self) -> dict[str, nn.Parameter]:
        """The parameters by their names in a merge: `2_Dense.linear.weight`."""
        steps = zip(self.steps, self.folders, strict=True)
        return {f"{folder}.{name}": weight for step, folder in steps for name, weight in step.named_parameters()}

    def forward(
        self,
        texts: Chunk,
        hidden: Float[Tensor, "total width"],
        layers: Sequence[Float[Tensor, "total width"]] | None = None,
    ) -> Float[Tensor, "texts dim"]:
        """Embed texts, in the order of the chunk.

        Args:
            texts: the texts of the tokens.
            hidden: last states of the tokens.
            layers: states of the tokens after each layer, for a head that `needs_layers`.
        """
        states = [_widen(x) for x in (hidden, *(layers or ()))]
        with torch.autocast(hidden.device.type, enabled=False):
            if texts.prompts is None or not self.excludes_prompts:
                return self._run(states, texts.lengths, texts.text, None)
            parts, order, sizes = [], [], torch.tensor(texts.sizes)
            text = torch.repeat_interleave(sizes)  # on the CPU, as all that follows: no step waits for a GPU
            for prompt in sorted(set(texts.prompts)):  # sentence-transformers' pooling takes one length of a prompt
                chosen = [text for text, tokens in enumerate(texts.prompts) if tokens == prompt]
                place, lengths = torch.isin(text, torch.tensor(chosen)).nonzero()[:, 0], sizes[chosen]
                place, lengths, index = moved([place, lengths, torch.repeat_interleave(lengths)], hidden.device)
                parts.append(self._run([x[place] for x in states], lengths, index, prompt))
                order += chosen
            (back,) = moved([torch.tensor(order).argsort()], hidden.device)
            return torch.cat(parts)[back]

    def _run(
        self, states: Sequence[Tensor], lengths: Tensor, text: Tensor, prompt: int | None
    ) -> Float[Tensor, "texts dim"]:
        starts = nn.functional.pad(lengths.cumsum(0), (1, 0))
        features: dict[str, Any] = {_TOKENS: states[0][None], "cu_seq_lens_q": starts, "seq_idx": text[None]}
        if len(states) > 1:
            features[_LAYERS] = [layer[None] for layer in states[1:]]
        if prompt is not None:
            features["prompt_length"] = prompt
        embedding: Tensor = self.steps(features)[_TEXT]
        return embedding

    def save(self, folder: Path) -> None:
        """Write the modules into their folders of a model directory."""
        steps: list[Any] = list(self.steps)
        for step, name in ((s, name) for s, name in zip(steps, self.folders, strict=True) if name):
            place = folder / name
            place.mkdir(parents=True, exist_ok=True)
            if isinstance(step, library.Pooling):  # in the spelling that older releases read too
                modes = [step.pooling_mode] if isinstance(step.pooling_mode, str) else list(step.pooling_mode)
                write_pooling(place, step.embedding_dimension, modes, step.include_prompt)
            elif not isinstance(step, library.Normalize) or step.module_input_name != _TEXT:
                step.save(str(place))


def plain_head(dim: int, pooling: Pooling = Pooling.mean, normalize: bool = True, include_prompt: bool = True) -> Head:
    """Pooling and normalisation, for a directory without modules.json."""
    return _built([("Pooling", library.Pooling(dim, mode_of(pooling), include_prompt))], normalize)


def load_head(options: EncoderOptions, manifest: Manifest, dim: int) -> Head:
    """The head of a model directory, with the pooling and normalisation of the options.

    Args:
        options: `pooling` and `include_prompt` replace the directory's; `normalize` adds or removes the normalisation at
            the end.
        manifest: of the directory.
        dim: width of the backbone's states.

    Raises:
        CheckpointError: a module does not open.
        ConfigError: a pooling that the body does not have.
    """
    pooling = Pooling.mean if options.pooling is Pooling.auto else options.pooling
    if manifest.body == STATIC and pooling is not Pooling.mean:
        raise ConfigError(f"encoder.pooling={pooling}: a {STATIC} takes the mean of its tokens. Leave the option out.")
    if manifest.modules is None:
        return plain_head(dim, pooling, options.normalize, options.include_prompt is not False)
    modules = [(entry.kind, _load(options, entry)) for entry in manifest.modules]
    if options.pooling is not Pooling.auto:
        modules = [(kind, _pool_as(step, pooling) if kind == "Pooling" else step) for kind, step in modules]
    if options.include_prompt is not None:
        for step in (step for kind, step in modules if kind == "Pooling"):
            step.include_prompt = options.include_prompt
    ends = [kind for kind, _ in modules[-1:]]
    if ends == ["Normalize"] and not options.normalize:
        modules.pop()
    head = _built(modules, options.normalize and ends != ["Normalize"])
    return (
        Head([("", library.Pooling(dim)), *zip(head.folders, head.steps, strict=True)])
        if manifest.body == STATIC
        else head
    )


def _built(modules: list[tuple[str, Any]], normalize: bool) -> Head:
    modules = [*modules, *([("Normalize", library.Normalize())] if normalize else [])]
    return Head([(f"{number}_{kind}", step) for number, (kind, step) in enumerate(modules, 1)])


def _pool_as(step: Any, pooling: Pooling) -> Any:
    return library.Pooling(step.embedding_dimension, mode_of(pooling), step.include_prompt)


def _load(options: EncoderOptions, entry: ModuleEntry) -> Any:
    assert entry.kind in HEAD
    try:
        step = getattr(library, entry.kind).load(
            options.path,
            subfolder=entry.folder,
            revision=options.revision,
            local_files_only=Path(options.path).is_dir(),
        )
    except Exception as error:  # of any class: modules check their files in many ways
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise CheckpointError(
            f"{options.path}/{entry.folder}: the module {entry.kind} does not open ({type(error).__name__}: {reason}). "
            "Copy or download it again."
        ) from error
    return step.float()


def _widen(hidden: Tensor) -> Tensor:
    """bfloat16 and float16 to float32: sums over tokens need the precision."""
    return hidden.to(torch.promote_types(hidden.dtype, torch.float32))
