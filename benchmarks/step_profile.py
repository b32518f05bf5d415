"""Where the time of a training step goes: ours beside sentence-transformers, float32 and bfloat16, as a picture.

python benchmarks/step_profile.py ../shared/data/squad/train.jsonl [--out step_profile.svg]

MiniLM, 32 questions of squad with a paragraph and a negative, 256 tokens, dropout on, AdamW: seconds by kind of work,
from torch's profiler (the median step of three by its length). The floor is that of training.py.
"""

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import torch
from machine import machine_line
from rich.console import Console
from rich.table import Table
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from side_by_side import floor, model_path, rate
from torch.profiler import ProfilerActivity, profile, record_function

from lightning_embed.encoder import Encoder, EncoderOptions, dropout
from lightning_embed.encoder.options import Dtype
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.types import LossInput

DRAW = "draw dropout"
KINDS = {  # of an event of the profiler, or of the nearest event around it that has a kind
    "products with weights": ("aten::mm", "aten::addmm"),
    "drawing dropout": (DRAW, "aten::bernoulli_"),
    "attention": (
        "CpuAttention", "CpuAttentionBackward", "aten::scaled_dot_product_attention", "aten::_scaled_dot_product_attention_math",
        "aten::bmm", "aten::_softmax", "aten::_softmax_backward_data", "aten::_safe_softmax",
    ),
    "activation": ("aten::gelu", "aten::gelu_backward"),
    "layer norm": ("aten::native_layer_norm", "aten::native_layer_norm_backward"),
    "embeddings": ("aten::embedding", "aten::embedding_dense_backward"),
    "optimizer, clipping": ("aten::_fused_adamw_", "aten::_foreach_norm", "aten::linalg_vector_norm"),
}  # fmt: skip
REST = "adding, scaling, copying"
WAITING = "Python and the rest"
COLOURS = dict(zip([*KINDS, REST, WAITING], plt.get_cmap("tab10").colors, strict=False))  # type: ignore[attr-defined]


def our_step(columns: list[list[str]], dtype: str) -> Callable[[], None]:
    """A step of ours."""
    encoder = Encoder(EncoderOptions(model_path(), dtype=Dtype(dtype), max_length=256))
    tokens = encoder.tokenizer([text for column in columns for text in column])
    optimizer = torch.optim.AdamW((p for p in encoder.parameters() if p.requires_grad), lr=2e-5, fused=True)
    query = torch.arange(len(columns[0]))
    draw = dropout.Dropped.__call__

    def recorded(self: dropout.Dropped, num: int) -> Any:
        with record_function(DRAW):
            return draw(self, num)

    dropout.Dropped.__call__ = recorded  # type: ignore[method-assign]

    def run() -> None:
        embeddings = encoder(tokens, seed=0)
        batch = LossInput(
            embeddings=embeddings,
            hashes=torch.arange(3 * len(query)),
            query=query,
            positives=query[:, None] + len(query),
            negatives=query[:, None] + 2 * len(query),
            score=None,
            rows=slice(0, len(query)),
        )
        InfoNCE()(batch).value.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return run


def their_step(columns: list[list[str]], dtype: str) -> Callable[[], None]:
    """The same step of sentence-transformers."""
    model = SentenceTransformer(model_path(), device="cpu")
    model.max_seq_length = 256
    model.train()
    loss = losses.MultipleNegativesRankingLoss(model)
    features = [model.preprocess(column) for column in columns]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-5, fused=True)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
            value = loss(features, None)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return run


def seconds_by_kind(run: Callable[[], None]) -> dict[str, float]:
    """Seconds of the median step of three, by kind of work."""
    run()
    found = []
    for _ in range(3):
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            start = time.perf_counter()
            run()
            seconds = time.perf_counter() - start
        kinds = dict.fromkeys(COLOURS, 0.0)
        for event in profiled.events():
            kinds[_kind(event)] += event.self_cpu_time_total / 1e6
        kinds[WAITING] += max(0.0, seconds - sum(kinds.values()))
        found.append((seconds, kinds))
    return sorted(found, key=lambda pair: pair[0])[1][1]


def _kind(event: Any) -> str:
    own = event.name
    while event is not None:
        for kind, names in KINDS.items():
            if event.name in names:
                return kind
        event = event.cpu_parent
    return REST if own.startswith("aten::") else WAITING


def draw(sides: dict[str, dict[str, float]], floors: dict[str, float], out: str) -> None:
    """Stacked bars, and the floor of each as a line across it."""
    figure, axes = plt.subplots(figsize=(8.5, 3.4), layout="constrained")
    for row, (name, kinds) in enumerate(sides.items()):
        left = 0.0
        for kind, seconds in kinds.items():
            axes.barh(row, seconds, left=left, color=COLOURS[kind], edgecolor="white", linewidth=0.5)
            left += seconds
        axes.text(left, row, f"  {left:.2f} s", va="center")
        axes.plot([floors[name]] * 2, [row - 0.42, row + 0.42], color="black", linewidth=1.5)
    axes.set_yticks(range(len(sides)), list(sides))
    axes.invert_yaxis()
    axes.set_xlim(0, 1.12 * max(sum(kinds.values()) for kinds in sides.values()))
    axes.set_xlabel(
        "seconds of a step; black: the floor, the real tokens at the speed of the machine's matrix products"
    )
    axes.spines[["top", "right"]].set_visible(False)
    handles = [mpl.patches.Patch(color=colour, label=kind) for kind, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize="small")
    figure.savefig(out)
    print(out)


def main() -> None:
    """Profile four steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", help="squad's train.jsonl")
    parser.add_argument("--out", default="step_profile.svg")
    given = parser.parse_args()
    with open(given.path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    rows = random.Random(0).sample([row for row in rows if row["negatives"]], 32)
    columns = [[row["query"] for row in rows]] + [[row[role][0] for row in rows] for role in ("positives", "negatives")]
    lengths = Encoder(EncoderOptions(model_path(), max_length=256)).tokenizer([t for c in columns for t in c]).lengths
    work = {"real": int(lengths.sum()), "squares": int((lengths**2).sum())}
    sides, floors = {}, {}
    for dtype in ("float32", "bfloat16"):
        for name, make in {"ours": our_step, "sentence-transformers": their_step}.items():
            sides[f"{name}, {dtype}"] = seconds_by_kind(make(columns, dtype))
            floors[f"{name}, {dtype}"] = floor(model_path(), work, rate(getattr(torch, dtype)))
    table = Table("seconds", *sides, box=None)
    for kind in COLOURS:
        table.add_row(kind, *(f"{side[kind]:.2f}" for side in sides.values()))
    table.add_row("floor", *(f"{value:.2f}" for value in floors.values()))
    console = Console(width=120)
    console.print(machine_line(), highlight=False)
    console.print(table)
    draw(sides, floors, given.out)


if __name__ == "__main__":
    main()
