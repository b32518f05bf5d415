"""Section `speed` of gpu_check.py: a training step in bfloat16 beside sentence-transformers, on the same tokens."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from gpu_parity import batch, module

from lightning_embed import Encoder
from lightning_embed.config import schema
from lightning_embed.encoder.options import EncoderOptions
from lightning_embed.types import Batch, StepMode, Task

if TYPE_CHECKING:
    from gpu_check import Check, Finding

# hidden size, layers, heads, inner size
_SHAPES = {
    "bert_base": (768, 12, 12, 3072),
    "bert_large": (1024, 24, 16, 4096),
    "modernbert_base": (768, 22, 12, 1152),
    "qwen3_0_6b": (1024, 28, 16, 3072),
}
_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "L4": 121e12, "4090": 165e12}  # dense bf16
_VOCABULARY = 30_000
_GIB = 2**30


def findings(check: Check) -> Iterator[Finding]:
    """Every shape with 256 rows, ours beside theirs; then 1,024 rows."""
    from gpu_check import tried

    schema.register()
    for rows in (256, 1024) if not check.tiny else (4,):
        for shape in _SHAPES:
            if check.is_over:
                return
            yield tried(f"{shape}, {rows} rows", partial(_case, check, shape, rows))


def _case(check: Check, shape: str, rows: int) -> Finding:
    path = _random_model(check, shape)
    tokens = batch(rows, Task.retrieval, 24 if check.tiny else 256, _VOCABULARY)
    flash = check.device.type == "cuda" and importlib.util.find_spec("flash_attn") is not None
    ways: dict[str, Callable[[], Callable[[], None]]] = {
        "ours": partial(_ours, path, tokens, check.device),
        "ours, cached": partial(_ours, path, tokens, check.device, StepMode.cached),
        "sentence-transformers, padded": partial(_theirs, path, tokens, check.device),
        **({"sentence-transformers, flattened": partial(_theirs, path, tokens, check.device, True)} if flash else {}),
    }
    if check.device.type == "cuda" and shape == "bert_base":
        ways["ours, compiled"] = partial(_ours, path, tokens, check.device, compiled=True)
    found: Finding = {"tokens": int(tokens.tokens.lengths.sum()), "ms": {}, "failed": {}}
    for way, make in ways.items():
        try:
            milliseconds, peak = _measured(make(), check)
        except Exception as error:  # such as too little memory: the other ways are measured
            found["failed"][way] = f"{type(error).__name__}: {error}"[:200]
            continue
        flops = _flops(path, tokens)
        found["ms"][way] = round(milliseconds, 2)
        found.setdefault("tokens_per_s", {})[way] = round(1000 * found["tokens"] / milliseconds)
        found.setdefault("peak_gib", {})[way] = None if peak is None else round(peak / _GIB, 2)
        best = _peak_of_device(check)
        found.setdefault("mfu", {})[way] = best and round(flops / best / milliseconds * 1000, 3)
    ratios = (
        {way: round(ms / found["ms"]["ours"], 2) for way, ms in found["ms"].items()} if "ours" in found["ms"] else {}
    )
    slower = any(ratio < 1 for way, ratio in ratios.items() if way.startswith("sentence"))
    return {**found, "times_ours": ratios, "ok": "ours" in ratios and (check.tiny or not slower)}


def _measured(step: Callable[[], None], check: Check) -> tuple[float, int | None]:
    """The median of five steps after two, in ms; the peak of memory in bytes."""
    is_gpu, times = check.device.type == "cuda", list[float]()
    if is_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    for _ in range(7 if not check.tiny else 2):
        if is_gpu:
            torch.cuda.synchronize()
        begin = time.perf_counter()
        step()
        if is_gpu:
            torch.cuda.synchronize()
        times.append(1000 * (time.perf_counter() - begin))
    return median(times[2:] or times[1:]), torch.cuda.max_memory_allocated() if is_gpu else None


def _stepped(parameters: Any, backward: Callable[[], None]) -> Callable[[], None]:
    """A step: backward, clip, AdamW."""
    kept = [each for each in parameters if each.requires_grad]
    optimizer = torch.optim.AdamW(kept, lr=1e-5, fused=kept[0].device.type == "cuda")

    def step() -> None:
        backward()
        torch.nn.utils.clip_grad_norm_([each for each in kept if each.grad is not None], 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def _ours(
    path: str, tokens: Batch, device: torch.device, mode: StepMode = StepMode.plain, compiled: bool = False
) -> Callable[[], None]:
    encoder = Encoder(EncoderOptions(path, dtype="bfloat16", compile=compiled)).train().to(device)  # type: ignore[arg-type]
    training, moved = module(encoder, Task.retrieval, "infonce", mode), tokens.to(device)

    def backward() -> None:
        training.run_backward(moved, lambda value, _: value.backward(), seed=1)

    return _stepped(encoder.parameters(), backward)


def _theirs(path: str, tokens: Batch, device: torch.device, flat: bool = False) -> Callable[[], None]:
    from sentence_transformers import SentenceTransformer, losses

    kernel: dict[str, Any] = {"attn_implementation": "flash_attention_2", "torch_dtype": torch.bfloat16} if flat else {}
    model = SentenceTransformer(path, device=str(device), model_kwargs=kernel).train()
    loss = losses.MultipleNegativesRankingLoss(model)
    texts = torch.split(tokens.tokens.ids, tokens.tokens.lengths.tolist())
    rows = len(texts) // 2

    def features(part: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        ids = torch.nn.utils.rnn.pad_sequence(list(part), batch_first=True)
        mask = torch.arange(ids.shape[1]) < torch.tensor(list(map(len, part)))[:, None]
        return {"input_ids": ids.to(device), "attention_mask": mask.long().to(device)}

    def backward() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            value = loss([features(texts[:rows]), features(texts[rows:])], None)
        value.backward()

    return _stepped(model.parameters(), backward)


def _random_model(check: Check, shape: str) -> str:
    """A directory with random weights of a shape, and the tokenizer of the given model."""
    import transformers

    folder = check.folder / shape
    if folder.exists():
        return str(folder)
    hidden, layers, heads, inner = _SHAPES[shape] if not check.tiny else (32, 2, 2, 64)
    sizes: dict[str, Any] = {
        "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads, "intermediate_size": inner,
        "vocab_size": 30_522, "pad_token_id": 0, "bos_token_id": 101, "eos_token_id": 102,
    }  # fmt: skip
    if shape.startswith("qwen3"):
        sizes |= {"num_key_value_heads": heads // 2, "head_dim": 128 if not check.tiny else 16}
        config = transformers.Qwen3Config(**sizes)
    elif shape.startswith("modernbert"):
        config = transformers.ModernBertConfig(**sizes, cls_token_id=101, sep_token_id=102)
    else:
        config = transformers.BertConfig(**sizes)
    torch.manual_seed(0)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(check.model).save_pretrained(folder)
    return str(folder)


def _flops(path: str, tokens: Batch) -> float:
    """Of forward and backward: six per weight and token, and attention by the squares of the lengths."""
    from safetensors import safe_open
    from transformers import AutoConfig

    config, weights = AutoConfig.from_pretrained(path), 0
    with safe_open(f"{path}/model.safetensors", "pt") as file:
        for name in file.keys():  # noqa: SIM118  it is no mapping
            weights += (
                0
                if "embeddings" in name or "embed_tokens" in name
                else file.get_slice(name).get_shape()[0] * ((file.get_slice(name).get_shape()[1:] or [0])[0])
            )
    width = config.num_attention_heads * (
        getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    )
    lengths = tokens.tokens.lengths.double()
    return float(6 * weights * lengths.sum() + 12 * config.num_hidden_layers * width * (lengths**2).sum())


def _peak_of_device(check: Check) -> float | None:
    name = torch.cuda.get_device_name() if check.device.type == "cuda" else ""
    return next((peak for key, peak in _PEAKS.items() if key in name), None)
