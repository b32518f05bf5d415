"""The layouts of `layouts.py`: each function writes one, in the models of a family."""

import json
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from layout_models import (
    EVERY,
    WORDS,
    Case,
    configured,
    dense,
    directories,
    model_class,
    rewritten,
    run_merge,
    seeded,
    three,
    with_modules,
    write,
)
from safetensors.torch import load_file, save_file
from torch import Tensor


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


layout("plain")(three)


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
    pattern = re.compile("|".join(map(re.escape, terms)))
    equal = folder / "equal"
    shutil.copytree(case.sources[0], equal)
    rewritten(case.sources[0], lambda t: {pattern.sub(lambda m: terms[m.group()], name): v for name, v in t.items()})
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


@layout("an adapter as a pickle", "bert", refused=r"adapter_model\.bin.*pickle")
def adapter_pickle(folder: Path, family: str) -> Case:
    case = adapter()(folder, family)
    for path in case.sources:
        (path / "adapter_model.safetensors").rename(path / "adapter_model.bin")
    return case


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


@layout("more tokens with vocabulary=base", "bert", "qwen3")
def grown(folder: Path, family: str) -> Case:
    case, more = three(folder, family), 3
    equal = folder / "equal"
    shutil.copytree(case.sources[1], equal)
    names = [f"new{number}" for number in range(more)]
    path = case.sources[1]
    transformers.BertTokenizer(vocab={word: i for i, word in enumerate([*names, *WORDS])}).save_pretrained(path)
    configured(path, vocab_size=len(WORDS) + more)

    def longer(tensor: Tensor) -> Tensor:
        return torch.cat([torch.ones(more, *tensor.shape[1:]), tensor]) if len(tensor) == len(WORDS) else tensor

    rewritten(path, lambda t: {name: longer(tensor) for name, tensor in t.items()})
    return Case(case.sources, case.base, ["vocabulary=base"], {path: equal})


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
