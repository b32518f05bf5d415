"""Operations of a training step as a GPU is asked for them, beside sentence-transformers' padded step on the same texts.

    python benchmarks/dispatches.py                                     # all models, 64 to 1,024 texts: 20 minutes
    python benchmarks/dispatches.py --models minilm --texts 64 256 --steps plain

No GPU is needed. Operations are counted on the way to the kernels (torch's dispatcher), in a steady step of both sides:
encode, loss (InfoNCE), backward, clip, AdamW, all under bfloat16 autocast. Attention is one operation forward and one
backward, as the fused kernels of a GPU are, which no CPU has: `varlen` here, `scaled_dot_product_attention` there. The
models have the layers of the real ones and are a few numbers wide, which changes no count. Half of the texts are
questions of 8 to 30 tokens, half paragraphs of 60 to 256, nearly all of another length.

A second step runs on the meta device, whose numbers nobody can read: what would wait for a GPU is counted and named.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.dropout import CpuDropout
from lightning_embed.encoder.kernels.varlen import Varlen
from lightning_embed.encoder.options import Dtype
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.training.cached_step import cached_backward
from lightning_embed.training.gather import local
from lightning_embed.types import Batch, Embeddings, Task, Tokens

STEPS = ("plain", "cached", "lora")
_WIDTH = 8
_WORDS = 100
_BERT = {"model_type": "bert", "num_attention_heads": 1, "max_position_embeddings": 512}
MODELS: dict[str, dict[str, Any]] = {
    "minilm": {**_BERT, "num_hidden_layers": 6},
    "bert_base": {**_BERT, "num_hidden_layers": 12},
    "modernbert_base": {
        "model_type": "modernbert",
        "num_hidden_layers": 22,
        "num_attention_heads": 1,
        "local_attention": 128,
        "cls_token_id": 2,
        "sep_token_id": 3,
    },
    "qwen3_0_6b": {
        "model_type": "qwen3",
        "num_hidden_layers": 28,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": _WIDTH,
        "use_cache": False,
    },
}


@torch.library.custom_op("dispatches::attend", mutates_args=())
def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:  # noqa: ARG001
    """Stands in for a fused kernel."""
    return torch.zeros_like(query)


@torch.library.custom_op("dispatches::attend_backward", mutates_args=())
def attend_backward(gradient: Tensor, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:  # noqa: ARG001
    return [torch.zeros_like(row) for row in (query, key, value)]


attend.register_fake(lambda query, *_: torch.empty_like(query))
attend_backward.register_fake(lambda _, *rows: [torch.empty_like(row) for row in rows])
attend.register_autograd(
    lambda ctx, gradient: tuple(attend_backward(gradient, *ctx.saved_tensors)),
    # torch passes them by name
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),  # noqa: ARG005
)


class Count(TorchDispatchMode):
    """Counts operations, and names those that wait for the `device`."""

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.operations = 0
        self.device = device
        self.syncs: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations += 1
        kwargs = kwargs or {}
        here = any(isinstance(each, Tensor) and each.device.type == self.device for each in args)
        name = func.overloadpacket.__name__
        if here and name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim"):
            self.syncs.append(name)
        if name in ("_to_copy", "copy_") and not (kwargs.get("non_blocking") or (len(args) > 2 and args[2])):
            devices = [each.device.type for each in args[:2] if isinstance(each, Tensor)]
            devices += [torch.device(kwargs["device"]).type] if kwargs.get("device") is not None else []
            if self.device in devices and len(set(devices)) > 1:
                self.syncs.append(f"{name} {' '.join(devices)}")
        return func(*args, **kwargs)


def build(model: str, folder: Path) -> Path:
    """A random model in a Hugging Face directory."""
    from transformers import AutoConfig, AutoModel, BertTokenizer

    path = folder / model
    if not path.exists():
        torch.manual_seed(0)
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *map(str, range(_WORDS))]
        BertTokenizer(vocab={word: number for number, word in enumerate(words)}).save_pretrained(path)
        sizes = {"vocab_size": len(words), "hidden_size": _WIDTH, "intermediate_size": _WIDTH, "pad_token_id": 0}
        options = MODELS[model]
        config = AutoConfig.for_model(**sizes, **options)
        AutoModel.from_config(config).save_pretrained(path)
    return path


def texts_of(count: int, shorter: int = 1) -> list[list[int]]:
    """Token ids: questions, then paragraphs, `shorter` times shorter."""
    generator = torch.Generator().manual_seed(0)
    half = count // 2
    lengths = [
        *torch.randint(8, 31, (half,), generator=generator).tolist(),
        *torch.randint(60, 257, (half,), generator=generator).tolist(),
    ]
    sizes = [max(1, length // shorter) for length in lengths]
    return [torch.randint(5, _WORDS, (size,), generator=generator).tolist() for size in sizes]


def batch_of(texts: list[list[int]]) -> Batch:
    half = len(texts) // 2
    rows = torch.arange(half)
    return Batch(
        "squad", Task.retrieval, Tokens.of(texts), torch.arange(len(texts)), rows, rows[:, None] + half,
        torch.empty(half, 0, dtype=torch.int64),
    )  # fmt: skip


@contextmanager
def as_on_a_gpu(device: str = "cpu") -> Iterator[None]:
    """Attention is one operation; the meta device takes an autocast, and does nothing with it."""

    def varlen(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        return attend(query, key, value)

    def padded(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
        return attend(query, key, value)

    with ExitStack() as patches:
        patches.enter_context(mock.patch("lightning_embed.encoder.kernels.varlen.varlen_attn", varlen))
        patches.enter_context(mock.patch("torch.nn.functional.scaled_dot_product_attention", padded))
        if device == "meta":
            patches.enter_context(mock.patch("torch.autocast", return_value=nullcontext()))
            patches.enter_context(mock.patch("torch.is_autocast_enabled", return_value=False))
        yield


def open_encoder(path: Path, step: str, dtype: Dtype = Dtype.bfloat16, max_tokens: int = 131072) -> Encoder:
    """An encoder that runs as on a GPU."""
    encoder = Encoder(EncoderOptions(str(path), dtype=dtype, max_tokens=max_tokens, lora_rank=8 * (step == "lora")))
    assert encoder.packed
    kernel = Varlen()
    encoder._kernel = lambda *_: kernel  # type: ignore[method-assign]
    for module in encoder.modules():
        if type(module) is CpuDropout:
            module.__class__ = torch.nn.Dropout
    return encoder.train()


def backward(encoder: Encoder, batch: Batch, step: str) -> None:
    """Encode, loss and backward, as `EmbeddingModule` does it."""

    def loss(embeddings: Embeddings) -> Any:
        return InfoNCE()(local(batch, embeddings))

    if step == "cached":
        cached_backward(encoder, batch.tokens, loss, lambda value, _: value.backward(), seed=1)
    else:
        loss(encoder(batch.tokens, seed=1)).value.backward()


def count_ours(path: Path, texts: list[list[int]], step: str, max_tokens: int = 131072) -> int:
    encoder = open_encoder(path, step, max_tokens=max_tokens)
    batch = batch_of(texts)
    with as_on_a_gpu():
        return _steady(encoder, lambda: backward(encoder, batch, step))


def syncs_of_ours(path: Path, texts: list[list[int]], step: str, max_tokens: int = 131072) -> list[str]:
    """What waits for a GPU in encode, loss, backward and clip."""
    encoder = open_encoder(path, step, Dtype.float32, max_tokens).to("meta")
    batch = batch_of(texts).to("meta", non_blocking=True)
    with as_on_a_gpu("meta"), Count() as count:
        backward(encoder, batch, step)
        torch.nn.utils.clip_grad_norm_([p for p in encoder.parameters() if p.requires_grad], 1.0)
    return count.syncs


def count_theirs(path: Path, texts: list[list[int]], step: str) -> int:
    """sentence-transformers, as its trainer runs it: one forward for the questions and one for the paragraphs."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses

    model = SentenceTransformer(str(path), device="cpu", model_kwargs={"attn_implementation": "sdpa"})
    if step == "lora":
        from peft import LoraConfig

        model.add_adapter(LoraConfig(r=8, target_modules="all-linear"))
    name = "CachedMultipleNegativesRankingLoss" if step == "cached" else "MultipleNegativesRankingLoss"
    loss = getattr(losses, name)(model)
    half = len(texts) // 2
    features = [_padded(part) for part in (texts[:half], texts[half:])]

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            value = loss([dict(each) for each in features], None)
        value.backward()

    with as_on_a_gpu():
        return _steady(model.train(), run)


def _padded(texts: list[list[int]]) -> dict[str, Tensor]:
    longest = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (longest - len(text))] for text in texts])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


def _steady(model: torch.nn.Module, run: Callable[[], None]) -> int:
    """Operations of the second step."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, fused=True)
    for _ in range(2):
        with Count() as count:
            run()
            torch.nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return count.operations


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--texts", nargs="+", type=int, default=[64, 256, 1024])
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    parser.add_argument("--shorter", type=int, default=1, help="divide all lengths by this: the same counts, sooner")
    options = parser.parse_args()
    max_tokens = 131072 // options.shorter
    for model in options.models:
        path = build(model, _folder())
        for step in options.steps:
            for count in options.texts:
                texts = texts_of(count, options.shorter)
                ours, theirs = count_ours(path, texts, step, max_tokens), count_theirs(path, texts, step)
                syncs = syncs_of_ours(path, texts, step, max_tokens)
                print(
                    f"{model} {step}, {count} texts of {len(set(map(len, texts)))} lengths: {ours:,} operations, "
                    f"padded {theirs:,}, syncs {len(syncs)} {sorted(set(syncs)) or ''} ratio {ours / theirs:.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
