"""Embedding models of many kinds: does training, however it runs, give a directory that other libraries read the same?

    python benchmarks/encoders.py                    (all; minutes)
    python benchmarks/encoders.py --only 'qwen|t5'   (configurations whose name matches)
    python benchmarks/encoders.py --fast             (without cached steps, checkpointing and LoRA)

Each configuration is a small random model. Its cells:

    loaded          load(folder) embeds as sentence-transformers, or transformers' model pooled by hand, does
    packed          four steps of InfoNCE on rows without padding
    padded          the same by eager attention on padded rows
    cached          the same by the cached step, chunk by chunk
    checkpointing   the same with checkpointed layers
    lora            the same with adapters, folded into what is saved

What is trained is saved, and opened by the other library. A number is the largest difference of an embedding of twelve
texts with several prompts and, except for LoRA, of a weight from the first cell that trained. A cell passes at 1e-5, or
if it is refused, where a refusal is expected, with the expected sentence. There is no other outcome. Exit status 1: a
cell failed. No network.
"""

import argparse
import logging
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from encoder_list import CONFIGURATIONS, REFUSED
from encoder_models import TEXTS, Configuration, embeddings_by_hand, library_model, write
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn.functional import normalize

from lightning_embed.config import schema
from lightning_embed.encoder import Encoder, EncoderOptions, load
from lightning_embed.encoder.options import Attention, Dtype, Pooling
from lightning_embed.errors import LightningEmbedError
from lightning_embed.loss.infonce import InfoNCE
from lightning_embed.training.cached_step import cached_backward
from lightning_embed.types import Embeddings, LossInput, LossOutput

TOLERANCE = 1e-5
STEPS = 4
OPTIONS: dict[str, dict[str, Any]] = {
    "packed": {"attention": Attention.packed},
    "padded": {"attention": Attention.eager},
    "cached": {},
    "checkpointing": {"gradient_checkpointing": True},
    "lora": {"lora_rank": 4},
}
CELLS = ("loaded", *OPTIONS)
PROMPTS = {"its own prompt": None, "no prompt": "", "a prompt": "the old "}
FAST = ("loaded", "packed", "padded")


@dataclass(frozen=True)
class Cell:
    """What became of a cell: a number or the begin of a sentence; `fault`: what is wrong."""

    outcome: str
    fault: str | None = None


def check(found: Configuration, folder: Path, cells: tuple[str, ...] = CELLS) -> dict[str, Cell]:
    """Write a configuration, and run its cells."""
    source, weights = write(found, folder / "source"), dict[str, Tensor]()
    results = {}
    for cell in cells:
        try:
            differences = _loaded(found, source) if cell == "loaded" else _trained(found, source, cell, weights)
        except LightningEmbedError as error:
            results[cell] = _refused(found, cell, str(error).replace(str(folder), "..."))
        except Exception as error:  # whatever the libraries raise is a traceback for who trains
            results[cell] = Cell("no sentence", f"{type(error).__name__}: {str(error)[:300]}")
        else:
            results[cell] = _compared(found, cell, differences)
    return results


def _refusal(found: Configuration, cell: str) -> str | None:
    """The pattern of the sentence that refuses a cell."""
    return REFUSED.get(f"{found.family} {found.note}", REFUSED.get(found.family, {})).get(cell)


def _refused(found: Configuration, cell: str, sentence: str) -> Cell:
    expected = _refusal(found, cell)
    if expected is None:
        return Cell("refused", f"refused: {sentence}")
    return Cell("refused", None if re.search(expected, sentence) else f"expected {expected}: {sentence}")


def _compared(found: Configuration, cell: str, differences: dict[str, float]) -> Cell:
    if expected := _refusal(found, cell):
        return Cell("ran", f"was not refused; expected: {expected}")
    largest = max(differences.values())
    shown = ", ".join(f"{name} {number:.0e}" for name, number in differences.items())
    return Cell(f"{largest:.0e}", None if largest <= TOLERANCE else f"differs: {shown}")  # NaN is a fault too


def _options(found: Configuration, source: Path, **options: Any) -> EncoderOptions:
    if found.head is None:
        options["pooling"] = Pooling(found.pooling)
    elif not _normalized(found):
        options["normalize"] = False
    return EncoderOptions(str(source), dtype=Dtype.float32, max_tokens=100, **options)


def _normalized(found: Configuration) -> bool:
    return found.head not in ("no normalize", "dense tanh")


def _loaded(found: Configuration, source: Path) -> dict[str, float]:
    """A directory as it came."""
    encoder = load(source) if found.head is not None else Encoder(_options(found, source))
    # text by text: padded on the left, as some are, models with learned positions give other embeddings
    return _differences(found, encoder, source, 1)


def _trained(found: Configuration, source: Path, cell: str, weights: dict[str, Tensor]) -> dict[str, float]:
    """Train as the cell says; `weights` are those of the first cell."""
    encoder = Encoder(_options(found, source, **OPTIONS[cell]))
    train(encoder, cached=cell == "cached")
    target = source.parent / cell
    encoder.save(target)
    differences = _differences(found, encoder, target)
    if cell != "lora":
        trained = {name: parameter.detach() for name, parameter in encoder.named_weights().items()}
        differences["weights"] = max(
            float((trained[name] - first).abs().max()) for name, first in (weights or trained).items()
        )
        weights.update(weights or trained)
    return differences


def _differences(found: Configuration, encoder: Encoder, folder: Path, batch_size: int = 32) -> dict[str, float]:
    """Between the embeddings of an encoder and those of other libraries, which open `folder`."""
    differences = {}
    saved = (folder / "modules.json").exists()
    if saved or found.pooling == "mean":  # sentence-transformers' own choice for a plain directory
        library = library_model(folder)
        for name, prompt in PROMPTS.items():
            theirs = library.encode(
                TEXTS, prompt=prompt, batch_size=batch_size, convert_to_tensor=True, normalize_embeddings=not saved
            )
            differences[name] = _largest(encoder.encode(TEXTS, prompt=prompt), theirs)
    if found.head is None:
        differences["by hand"] = _largest(encoder.encode(TEXTS), embeddings_by_hand(folder, found.pooling))
    return differences


def _largest(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max())


def train(encoder: Encoder, cached: bool = False) -> None:
    """Four steps on six pairs of texts."""
    pairs = len(TEXTS) // 2
    tokens = encoder.tokenizer(TEXTS, encoder.prompts.named(None))

    def loss(embeddings: Embeddings) -> LossOutput:
        return InfoNCE()(
            LossInput(
                embeddings=Embeddings(normalize(embeddings.final, dim=-1)),
                hashes=torch.arange(len(TEXTS)),
                query=torch.arange(pairs),
                positives=torch.arange(pairs, 2 * pairs)[:, None],
                negatives=torch.empty(pairs, 0, dtype=torch.int64),
                score=None,
                rows=slice(0, pairs),
            )
        )

    trained = [parameter for parameter in encoder.parameters() if parameter.requires_grad]
    # eps: without it a gradient that is zero but for rounding, as that of a bias of keys, would be a whole step
    optimizer = torch.optim.AdamW(trained, lr=1e-3, eps=1e-3)
    for step in range(STEPS):
        optimizer.zero_grad()
        if cached:
            cached_backward(encoder, tokens, loss, lambda product, _: product.backward(), seed=step)
        else:
            loss(encoder(tokens, seed=step)).value.backward()
        optimizer.step()


def quiet() -> None:
    """Silence the libraries."""
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    for name in ("sentence_transformers", "lightning_embed"):
        logging.getLogger(name).setLevel(logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="configurations whose name matches this regular expression")
    parser.add_argument("--fast", action="store_true", help=f"only {', '.join(FAST)}")
    options = parser.parse_args()
    quiet()
    schema.register()
    cells = FAST if options.fast else CELLS
    table = Table("configuration", *cells, "packed")
    faults, count = [], {"equal": 0, "refused": 0}
    chosen = [found for found in CONFIGURATIONS if re.search(options.only, found.name)]
    for found in chosen:
        with TemporaryDirectory() as name:
            results = check(found, Path(name), cells)
        shown = ["FAULT" if cell.fault else cell.outcome for cell in results.values()]
        table.add_row(found.name, *shown, "no" if "refused" in results["packed"].outcome else "yes")
        faults += [f"{found.name}, {name}: {cell.fault}" for name, cell in results.items() if cell.fault]
        for cell in (cell for cell in results.values() if not cell.fault):
            count["refused" if cell.outcome == "refused" else "equal"] += 1
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for fault in faults:
        print(fault)
    print(
        f"{len(chosen)} configurations: {count['equal']} cells equal, {count['refused']} refused with their sentence, "
        f"{len(faults)} faults"
    )
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
