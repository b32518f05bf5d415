"""Layouts of model directories: is each one merged rightly, or refused with a sentence?

    python benchmarks/layouts.py                    (all)
    python benchmarks/layouts.py --only dense       (layouts whose name contains the word)

Each layout is written in small random models of each of its families: a base and two or three sources. Each is merged by
soup, task_arithmetic and ties, through the same functions as merge.py. A row passes if the merged directory opens (in
sentence-transformers where the sources have modules, else in transformers), has the reference's tensors, computed in
float64 from what the same library reads in the sources, and gives finite embeddings; or if it is refused, where a
refusal is expected, with the expected sentence. There is no other outcome. Exit status 1: a row failed. No network.
"""

import argparse
import io
import json
import logging
import re
import shutil
import string
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import transformers
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file, save_file
from torch import Tensor

from lightning_embed.cli.quoting import quoted
from lightning_embed.config import schema
from lightning_embed.errors import LightningEmbedError
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


# ------------------------------------------------------------------------------------------------ the three merges


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


# -------------------------------------------------------------------------------------------- models, and reading them


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


# ---------------------------------------------------------------------------------------------------------- the layouts


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


@dataclass(frozen=True)
class Layout:
    """A kind of directory, and what becomes of it: `refused` is the pattern of the sentence, None a merged model."""

    name: str
    make: Callable[[Path, str], Case]
    families: Sequence[str]
    refused: str | None


LAYOUTS: list[Layout] = []


def layout(name: str, *families: str, refused: str | None = None) -> Callable[[Callable[[Path, str], Case]], Any]:
    """Add a layout, for all families if none is named."""

    def add(make: Callable[[Path, str], Case]) -> Callable[[Path, str], Case]:
        LAYOUTS.append(Layout(name, make, families or EVERY, refused))
        return make

    return add


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


plain = layout("plain")(three)


@layout("sharded")
def sharded(folder: Path, family: str) -> Case:
    case = three(folder, family)
    model_class(family).from_pretrained(case.sources[0]).save_pretrained(case.sources[0], max_shard_size="10KB")
    assert len(list(case.sources[0].glob("model-*"))) > 1
    (case.sources[0] / "model.safetensors").unlink(missing_ok=True)
    return case


@layout("a file beside an older index", "bert", "qwen3")
def saved_again(folder: Path, family: str) -> Case:
    case = three(folder, family)
    whole = case.sources[0] / "model.safetensors"
    kept = whole.read_bytes()
    old = write(folder / "old", family, 7)
    model_class(family).from_pretrained(old).save_pretrained(case.sources[0], max_shard_size="10KB")
    whole.write_bytes(kept)
    return case


@layout("bfloat16 and float16", "bert", "qwen3", "t5")
def halves(folder: Path, family: str) -> Case:
    case = three(folder, family)
    for source, dtype in zip(case.sources, (torch.bfloat16, torch.float16), strict=True):
        model_class(family).from_pretrained(source, dtype=dtype).save_pretrained(source)
    return case


@layout("a masked language model beside plain ones", "bert", "roberta", "modernbert")
def masked(folder: Path, family: str) -> Case:
    case = three(folder, family)
    shutil.rmtree(case.sources[0])
    write(case.sources[0], family, 1, transformers.AutoModelForMaskedLM)
    return case


@layout("causal language models", "qwen3")
def causal(folder: Path, family: str) -> Case:
    case = three(folder, family, transformers.AutoModelForCausalLM)
    return Case(case.sources, write(folder / "base_lm", family, 0, transformers.AutoModelForCausalLM))


@layout("names with gamma and beta", "bert")
def old_terms(folder: Path, family: str) -> Case:
    case = three(folder, family)
    terms = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    new = {old: new for new, old in terms.items()}
    pattern = re.compile("|".join(map(re.escape, terms)))
    equal = folder / "equal"
    shutil.copytree(case.sources[0], equal)
    rewritten(case.sources[0], lambda t: {pattern.sub(lambda m: terms[m.group()], name): v for name, v in t.items()})
    assert new
    return Case(case.sources, case.base, equal={case.sources[0]: equal})


def prefixed(prefix: str, *, every: bool) -> Callable[[Path, str], Case]:
    """Names as a wrapper of torch writes them, in all models or in one."""

    def make(folder: Path, family: str) -> Case:
        case, equal = three(folder, family), {}
        for path in directories(case) if every else case.sources[:1]:
            equal[path] = folder / f"equal-{path.name}"
            shutil.copytree(path, equal[path])
            rewritten(path, lambda t: {f"{prefix}{name}": v for name, v in t.items()})
        return Case(case.sources, case.base, equal=equal)

    return make


layout("prefix _orig_mod. in all", "bert", "qwen3")(prefixed("_orig_mod.", every=True))
layout("prefix module. in one", "bert", "t5")(prefixed("module.", every=False))
layout("prefix module._orig_mod. in all", "modernbert")(prefixed("module._orig_mod.", every=True))


@layout("position ids", "bert")
def position_ids(folder: Path, family: str) -> Case:
    case = three(folder, family)
    ids = torch.arange(66)[None]
    rewritten(case.sources[0], lambda t: t | {"embeddings.position_ids": ids})
    return case


@layout("a tied matrix stored twice", "qwen3")
def twice(folder: Path, family: str) -> Case:
    case = three(folder, family, transformers.AutoModelForCausalLM)
    base = write(folder / "base_lm", family, 0, transformers.AutoModelForCausalLM, tie_word_embeddings=True)
    for path in case.sources:
        configured(path, tie_word_embeddings=True)
        rewritten(path, lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"].clone()})
    rewritten(base, lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"].clone()})
    return Case(case.sources, base, ["merge.layers=['.*embed_tokens.*=1']"])


@layout("sentence-transformers, mean", "bert", "roberta", "modernbert")
def pooled(folder: Path, family: str) -> Case:
    case = three(folder, family)
    for path in directories(case):
        with_modules(path)
    return case


@layout("sentence-transformers, last token", "qwen3")
def last_token(folder: Path, family: str) -> Case:
    case = three(folder, family)
    for path in directories(case):
        with_modules(path, pooling="lasttoken")
    return case


@layout("the second source alone has modules", "bert")
def second_pooled(folder: Path, family: str) -> Case:
    case = three(folder, family)
    plain_copy = folder / "equal"
    shutil.copytree(case.sources[1], plain_copy)
    with_modules(case.sources[1], pooling="cls")
    return case


@layout("0_Transformer", "bert", "qwen3")
def in_folder(folder: Path, family: str) -> Case:
    case = three(folder, family)
    for path in directories(case):
        with_modules(path)
        listed = json.loads((path / "modules.json").read_text())
        below = path / "0_Transformer"
        below.mkdir()
        for file in path.iterdir():
            if file.is_file() and file.name not in ("modules.json", "config_sentence_transformers.json", "README.md"):
                file.rename(below / file.name)
        listed[0]["path"] = below.name
        (path / "modules.json").write_text(json.dumps(listed))
    return case


@layout("Dense", "bert", "t5", "qwen3")
def dense_heads(folder: Path, family: str) -> Case:
    case = three(folder, family)
    for seed, path in enumerate(directories(case)):
        with_modules(path, seeded(dense, seed))
    return case


@layout("Dense and LayerNorm", "bert")
def dense_and_norm(folder: Path, family: str) -> Case:
    from sentence_transformers.models import LayerNorm

    def norm() -> Any:
        module = LayerNorm(8)
        torch.nn.init.normal_(module.norm.weight, 1.0, 0.1)
        return module

    case = three(folder, family)
    for seed, path in enumerate(directories(case)):
        with_modules(path, seeded(dense, seed), seeded(norm, seed))
    return case


@layout("Dense as a pickle", "bert", refused=r"2_Dense/pytorch_model\.bin.*pickle")
def dense_pickle(folder: Path, family: str) -> Case:
    case = dense_heads(folder, family)
    for path in directories(case):
        weights = path / "2_Dense/model.safetensors"
        torch.save(load_file(weights), weights.with_name("pytorch_model.bin"))
        weights.unlink()
    return case


@layout("Dense in one source", "bert", refused=r"2_Dense")
def dense_in_one(folder: Path, family: str) -> Case:
    case = three(folder, family)
    for seed, path in enumerate(directories(case)):
        with_modules(path, *([seeded(dense, seed)] if seed == 0 else []))
    return case


@layout("StaticEmbedding", "bert")
def static(folder: Path, family: str) -> Case:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer

    case = three(folder, family)
    tokenizer = Tokenizer.from_file(str(case.base / "tokenizer.json"))
    for seed, path in enumerate(directories(case)):
        shutil.rmtree(path)
        torch.manual_seed(seed)
        module = StaticEmbedding(tokenizer, embedding_weights=torch.randn(len(WORDS), 16).numpy())
        SentenceTransformer(modules=[module], device="cpu").save_pretrained(str(path))
    return case


@layout("Router", "bert")
def router(folder: Path, family: str) -> Case:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Router, Transformer

    case = three(folder, family)
    for path in directories(case):
        modules = Router.for_query_document(
            [Transformer(str(path)), Pooling(16)], [Transformer(str(path)), Pooling(16)]
        )
        shutil.rmtree(path)
        SentenceTransformer(modules=[modules], device="cpu").save_pretrained(str(path))
    return case


def adapter(kind: str = "plain", **options: Any) -> Callable[[Path, str], Case]:
    """Adapters of the base by peft; the equal directory is its own merge of adapter and base."""

    def make(folder: Path, family: str) -> Case:
        from peft import LoraConfig, get_peft_model

        base, equal = write(folder / "base", family, 0), {}
        for seed in (1, 2):
            torch.manual_seed(seed)
            path = folder / f"{kind}{seed}"
            loaded = model_class(family).from_pretrained(base)
            model = get_peft_model(loaded, LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", **options))
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.data += 0.1 * torch.randn(parameter.shape)
            model.save_pretrained(path)
            equal[path] = folder / f"equal{seed}"
            model.merge_and_unload().save_pretrained(equal[path])
        return Case(list(equal), base, equal=equal)

    return make


layout("LoRA", "bert", "roberta", "qwen3")(adapter())
layout("rsLoRA with alpha patterns", "bert")(adapter(use_rslora=True, alpha_pattern={"query": 8}))
layout("DoRA", "bert")(adapter(use_dora=True))


@layout("gptq", "bert", refused=r"(?i)gptq")
def gptq(folder: Path, family: str) -> Case:
    case = three(folder, family)
    for path in case.sources:
        configured(path, quantization_config={"quant_method": "gptq", "bits": 4})
        rewritten(path, lambda t: t | {"encoder.layer.0.output.dense.qweight": torch.zeros(4, 4, dtype=torch.int32)})
    return case


@layout("float8 and scales", "bert")
def float8(folder: Path, family: str) -> Case:
    case, name, equal = three(folder, family), "encoder.layer.0.output.dense.weight", {}
    for path in case.sources:
        equal[path] = folder / f"equal-{path.name}"
        shutil.copytree(path, equal[path])
        rewritten(equal[path], lambda t: t | {name: t[name].to(torch.float8_e4m3fn).float()})
        configured(path, quantization_config={"quant_method": "fp8", "weight_block_size": [128, 128]})
        rewritten(path, lambda t: t | {name: t[name].to(torch.float8_e4m3fn), f"{name}_scale_inv": torch.ones(1, 1)})
    return Case(case.sources, case.base, equal=equal)


@layout("integer codes without a configuration", "bert", refused=r"int8")
def codes(folder: Path, family: str) -> Case:
    case, name = three(folder, family), "encoder.layer.0.output.dense.weight"
    for path in directories(case):
        rewritten(path, lambda t: t | {name: t[name].mul(100).to(torch.int8), f"{name}_scale": torch.ones(1)})
    return case


@layout("empty tensors", "bert", refused=r"empty")
def empty(folder: Path, family: str) -> Case:
    case = three(folder, family)
    for path in directories(case):
        rewritten(path, lambda t: {n: v.flatten()[:0].clone() if "query.weight" in n else v for n, v in t.items()})
    return case


@layout("a missing shard", "bert", refused=r"has no model-00002")
def missing_shard(folder: Path, family: str) -> Case:
    case = sharded(folder, family)
    next(case.sources[0].glob("model-00002*")).unlink()
    return case


@layout("a tensor in two shards", "bert", refused=r"two|twice|both")
def two_shards(folder: Path, family: str) -> Case:
    case = sharded(folder, family)
    one, other = sorted(case.sources[0].glob("model-0000[12]*"))
    save_file(load_file(other) | {next(iter(load_file(one))): next(iter(load_file(one).values()))}, other)
    return case


@layout("modules outside", "bert", refused=r"\.\./")
def outside(folder: Path, family: str) -> Case:
    case = pooled(folder, family)
    (folder / "private").mkdir()
    (folder / "private/config.json").write_text("{}")
    listed = json.loads((case.sources[0] / "modules.json").read_text())
    listed[1]["path"] = "../private"
    (case.sources[0] / "modules.json").write_text(json.dumps(listed))
    return case


@layout("a link outside", "bert", refused=r"(?i)link|outside|inside")
def linked(folder: Path, family: str) -> Case:
    case = three(folder, family)
    (folder / "id_rsa").write_text("secret")
    (case.sources[0] / "vocab.txt").unlink(missing_ok=True)
    (case.sources[0] / "vocab.txt").symlink_to(folder / "id_rsa")
    return case


@layout("a snapshot of the hub's cache", "bert", "qwen3")
def snapshot(folder: Path, family: str) -> Case:
    case, sources = three(folder, family), []
    for number, path in enumerate(case.sources):
        commit = folder / f"models--team--e{number}/snapshots" / (f"{number}" * 40)
        blobs = commit.parent.parent / "blobs"
        blobs.mkdir(parents=True)
        commit.mkdir(parents=True)
        for file in path.iterdir():
            shutil.copyfile(file, blobs / file.name.encode().hex())
            (commit / file.name).symlink_to(Path("../../blobs") / file.name.encode().hex())
        sources.append(commit)
    return Case(sources, case.base)


def reordered(folder: Path) -> None:
    """Another order of the last tokens, in the tokenizer and in the rows."""
    order = [*range(len(WORDS) - 40), *reversed(range(len(WORDS) - 40, len(WORDS)))]
    transformers.BertTokenizer(vocab={WORDS[old]: new for new, old in enumerate(order)}).save_pretrained(folder)
    rewritten(folder, lambda t: {n: v[order].clone() if v.shape[:1] == (len(WORDS),) else v for n, v in t.items()})


@layout("a vocabulary in a different order", "bert", "qwen3", refused=r"vocabulary=first \(or base\)")
def other_order(folder: Path, family: str) -> Case:
    case = three(folder, family)
    reordered(case.sources[1])
    return case


@layout("the same with vocabulary=base", "bert", "qwen3")
def remapped(folder: Path, family: str) -> Case:
    case = three(folder, family)
    equal = folder / "equal"
    shutil.copytree(case.sources[1], equal)
    reordered(case.sources[1])
    return Case(case.sources, case.base, ["vocabulary=base"], {case.sources[1]: equal})


def differs(family: str, key: str, value: Any, *options: str, refused: bool = True) -> None:
    """A layout in which one source has a different value in config.json."""

    def make(folder: Path, family: str) -> Case:
        case = three(folder, family)
        configured(case.sources[1], **{key: value})
        return Case(case.sources, case.base, options)

    name = f"{key}={value!r}".removesuffix("'") + (f" with {options[0]}" if options else "")
    layout(name, family, refused=re.escape(key) if refused else None)(make)


differs("bert", "num_attention_heads", 4)
differs("bert", "hidden_act", "relu")
differs("bert", "layer_norm_eps", 1e-5)
differs("bert", "layer_norm_eps", 1e-5, "merge.allow=[layer_norm_eps]", refused=False)
differs("bert", "hidden_dropout_prob", 0.3, refused=False)
differs("bert", "_name_or_path", "/home/person/model", refused=False)
differs("qwen3", "is_causal", False)
differs("qwen3", "use_sliding_window", True)


@layout("cls against mean pooling", "bert", refused=r"(?i)pooling")
def poolings(folder: Path, family: str) -> Case:
    case = three(folder, family)
    for path, mode in zip(directories(case), ("mean", "cls", "mean"), strict=True):
        with_modules(path, pooling=mode)
    return case


@layout("private files", "bert")
def private(folder: Path, family: str) -> Case:
    case = three(folder, family)
    names = ["trainer_state.json", "training_args.bin", "data.jsonl", "train.log", "events.out.tfevents.1"]
    for name in names:
        (case.sources[0] / name).write_text("{}")
    return Case(case.sources, case.base, absent=names)


@layout("names that are not ASCII", "bert")
def not_ascii(folder: Path, family: str) -> Case:
    case = three(folder, family)
    sources = [path.rename(folder / f"modèle-{number}-模型") for number, path in enumerate(case.sources)]
    return Case(sources, case.base)


@layout("the folder of a merge", "bert")
def of_a_merge(folder: Path, family: str) -> Case:
    case = three(folder, family)
    run_merge(Case(case.sources, case.base), "soup", folder / "first")
    (merged,) = (folder / "first/merged").iterdir()
    return Case([case.sources[0], merged], case.base, equal={merged: merged / "model"})


# ------------------------------------------------------------------------------------------------------------- the rows


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


@dataclass(frozen=True)
class Row:
    """What became of a layout: the largest difference by word, or the sentence of the refusal; `fault`: what is wrong."""

    outcome: str
    fault: str | None = None


def check(found: Layout, family: str, folder: Path) -> Row:
    """Write a layout and merge it by three words."""
    case = found.make(folder, family)
    differences = {}
    for word in MERGES:
        try:
            merged = run_merge(case, word, folder / word)
        except LightningEmbedError as error:
            return _refused(found, str(error))
        except Exception as error:  # a traceback for who typed the command
            return Row("no sentence", f"{word}: {type(error).__name__}: {str(error)[:300]}")
        if found.refused is not None:
            return Row("merged", f"{word} was not refused; expected: {found.refused}")
        try:
            differences[word] = _difference(case, family, word, merged)
        except Exception as error:  # whatever the libraries raise: a merged model must open
            return Row("merged", f"{word}: {type(error).__name__}: {str(error)[:300]}")
    largest = max(differences.values())
    return Row(f"{largest:.0e}", None if largest < TOLERANCE else f"differs by {differences}")


def _refused(found: Layout, sentence: str) -> Row:
    shown = f"refused: {sentence[:100]}"
    if found.refused is None:
        return Row(shown, f"refused: {sentence}")
    return Row(shown, None if re.search(found.refused, sentence) else f"expected {found.refused}: {sentence}")


def _difference(case: Case, family: str, word: str, merged: Path) -> float:
    """The largest difference from the reference, after the checks without a number."""
    left = [name for name in case.absent if list(merged.rglob(name))]
    assert not left, f"{left} were copied"
    assert "_name_or_path" not in (merged / "config.json").read_text() if (merged / "config.json").exists() else True
    assert embed(merged).isfinite().all(), "embeddings are not finite"
    models = [read(case.equal.get(path, path), family) for path in directories(case)]
    expected, tensors = reference(models[:-1], models[-1], word), read(merged, family)
    return max(float((tensors[name] - tensor).abs().max()) for name, tensor in expected.items())


def rows(only: str = "", families: Sequence[str] = EVERY) -> Iterator[tuple[Layout, str]]:
    """Layouts whose name contains `only`, with each of their families."""
    for found in LAYOUTS:
        if only.casefold() in found.name.casefold():
            yield from ((found, family) for family in found.families if family in families)


def quiet() -> None:
    """Silence the libraries that write the layouts."""
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="layouts whose name contains this")
    options = parser.parse_args()
    quiet()
    schema.register()
    faults, count = 0, 0
    for found, family in rows(options.only):
        with TemporaryDirectory() as name:
            row = check(found, family, Path(name))
        count += 1
        faults += row.fault is not None
        print(
            f"{'FAULT' if row.fault else 'ok   '}  {found.name:45} {family:11} {row.fault or row.outcome}", flush=True
        )
    print(f"{count - faults} of {count} layouts are merged as the reference, or refused with their sentence")
    sys.exit(faults > 0)


if __name__ == "__main__":
    main()
