"""Small random models for `layouts.py`: their layouts on disk, what libraries read in them, and slow merges in float64."""

import io
import json
import re
import shutil
import string
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file, save_file
from torch import Tensor

from lightning_embed.cli.quoting import quoted
from lightning_embed.config import schema
from lightning_embed.run import merge

Tensors = Mapping[str, Tensor]
TOLERANCE = 2e-6  # of float32 sums of a few numbers below 1
TEXTS = ["a red cat", "two birds over the sea"]
LETTERS = string.ascii_lowercase + string.digits + string.punctuation
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]

SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS), "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
    "num_attention_heads": 2, "max_position_embeddings": 66,
}  # fmt: skip
IDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**SIZES),
    "roberta": lambda: transformers.XLMRobertaConfig(**SIZES, **IDS, type_vocab_size=1),
    "modernbert": lambda: transformers.ModernBertConfig(**SIZES, **IDS, cls_token_id=2, sep_token_id=3),
    "qwen3": lambda: transformers.Qwen3Config(**SIZES, **IDS, num_key_value_heads=1, head_dim=8),
    "t5": lambda: transformers.T5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0
    ),
}  # fmt: skip
EVERY = tuple(FAMILIES)


def soup(sources: Sequence[Tensor], base: Tensor) -> Tensor:  # noqa: ARG001
    """The mean."""
    return torch.stack(list(sources)).mean(0)


def task_arithmetic(sources: Sequence[Tensor], base: Tensor) -> Tensor:
    """The base, and 0.4 of the sum of the deltas."""
    return base + 0.4 * sum(source - base for source in sources)


def ties(sources: Sequence[Tensor], base: Tensor) -> Tensor:
    """Trim to the fifth of largest magnitude, elect the sign of the sum, average the deltas that have it."""
    flat = [(source - base).flatten() for source in sources]
    kept = max(1, round(0.2 * base.numel()))
    trimmed = torch.stack([d * (d.abs() >= d.abs().sort(descending=True).values[kept - 1]) for d in flat])
    agree = (trimmed.sign() == trimmed.sum(0).sign()) & (trimmed != 0)
    mean = (trimmed * agree).sum(0) / agree.sum(0).clamp(min=1)
    return base + mean.view_as(base)


MERGES: dict[str, Callable[[Sequence[Tensor], Tensor], Tensor]] = {
    "soup": soup, "task_arithmetic": task_arithmetic, "ties": ties,
}  # fmt: skip


def model_class(family: str) -> Any:
    """The class of the encoder alone."""
    return transformers.T5EncoderModel if family == "t5" else transformers.AutoModel


def write(folder: Path, family: str, seed: int, make: Any = None, **changes: Any) -> Path:
    """A random model: seed 0 is a base, others differ from it by a little noise. `changes` are of its configuration."""
    config = FAMILIES[family]()
    for key, value in changes.items():
        setattr(config, key, value)
    make = make or model_class(family)
    torch.manual_seed(0)
    model = make(config) if make is transformers.T5EncoderModel else make.from_config(config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape) * (seed > 0)
    model.save_pretrained(folder)
    transformers.BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}).save_pretrained(folder)
    return folder


def read(folder: Path, family: str) -> dict[str, Tensor]:
    """The parameters in float64, as sentence-transformers (where there are modules) or transformers reads them."""
    if (folder / "modules.json").exists():
        from sentence_transformers import SentenceTransformer

        state, missing = SentenceTransformer(str(folder), device="cpu").state_dict(), frozenset[str]()
    else:
        model, report = model_class(family).from_pretrained(folder, output_loading_info=True)
        state, missing = model.state_dict(), frozenset(report["missing_keys"])
    return {_short(name): t.double() for name, t in state.items() if t.is_floating_point() and name not in missing}


def _short(name: str) -> str:
    """A name without the place of the body in sentence-transformers."""
    return re.sub(r"^0\.(auto_model|model)\.", "", name)


def embed(folder: Path) -> Tensor:
    """Embeddings of two texts by sentence-transformers."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu").encode(TEXTS, convert_to_tensor=True)


def reference(read_sources: Sequence[Tensors], read_base: Tensors, word: str) -> dict[str, Tensor]:
    """The merged parameters; one that some models lack is that of the first that has it."""
    names = list(dict.fromkeys(name for model in (*read_sources, read_base) for name in model))
    found = {}
    for name in names:
        having = [model[name] for model in read_sources if name in model]
        whole = len(having) == len(read_sources) and name in read_base
        found[name] = MERGES[word](having, read_base[name]) if whole else (having or [read_base[name]])[0]
    return found


@dataclass(frozen=True)
class Case:
    """Directories to merge.

    Args:
        sources: in order.
        base: of all sources.
        options: more overrides of merge.py.
        equal: directory -> one with the same tensors that transformers reads, where it does not read this layout.
        absent: files that the merged directory must not have.
    """

    sources: Sequence[Path]
    base: Path
    options: Sequence[str] = ()
    equal: Mapping[Path, Path] = field(default_factory=dict)
    absent: Sequence[str] = ()


def three(folder: Path, family: str, make: Any = None) -> Case:
    """A base and two sources."""
    return Case([write(folder / f"e{seed}", family, seed, make) for seed in (1, 2)], write(folder / "base", family, 0))


def directories(case: Case) -> list[Path]:
    """The sources and the base."""
    return [*case.sources, case.base]


def rewritten(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Change the stored tensors of a directory."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


def configured(folder: Path, **changes: Any) -> None:
    """Change entries of config.json."""
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def with_modules(folder: Path, *modules: Any, pooling: str = "mean") -> Path:
    """The same model as sentence-transformers saves it, with pooling and more modules."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    body = Transformer(str(folder), max_seq_length=32)
    model = SentenceTransformer(modules=[body, Pooling(16, pooling_mode=pooling), *modules], device="cpu")
    shutil.rmtree(folder)
    model.save_pretrained(str(folder))
    return folder


def seeded(make: Callable[[], Any], seed: int) -> Any:
    """A module with random weights."""
    torch.manual_seed(seed)
    return make()


def dense() -> Any:
    """A Dense module."""
    from sentence_transformers.models import Dense

    return Dense(16, 8)


def run_merge(case: Case, word: str, out: Path) -> Path:
    """Merge as merge.py does; the directory of the merged model."""
    overrides = [
        f"sources=[{','.join(map(str, case.sources))}]", f"base={case.base}", f"merge={word}", f"out={out}",
        "evaluation=none", "logger=none", *case.options,
    ]  # fmt: skip
    GlobalHydra.instance().clear()
    with (
        initialize_config_dir(version_base="1.3", config_dir=str(schema.conf_folder())),
        redirect_stdout(io.StringIO()),
    ):
        merge.merge(compose("merge", quoted(overrides)))
    (merged,) = (out / "merged").iterdir()
    return merged / "model"
