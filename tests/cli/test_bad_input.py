"""Bad input, as a table: what a user gives, and the one sentence that answers it. Nothing is trained, nothing is written."""

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, flag_override
from safetensors.torch import save_file

from lightning_embed.config import compose
from lightning_embed.errors import LightningEmbedError
from lightning_embed.run import merge, train
from tests.merge import toy as merge_toy
from tests.run.test_train import ROOT, _cfg, _overrides
from tests.toy import write_toy

pytestmark = pytest.mark.filterwarnings("ignore")

Spoil = Callable[[Path], object]
PAIR = {"query": "the cat", "positives": ["a cat"], "negatives": ["a dog"]}
SCORED = {"text1": "the cat", "text2": "a cat", "score": 0.5}


def lines(file: str, *records: object) -> Spoil:
    """Write a .jsonl file; texts stand as they are."""
    made = [r if isinstance(r, str) else json.dumps(r) for r in records]
    return lambda folder: (folder / file).write_text("".join(f"{line}\n" for line in made))


def raw(file: str, content: bytes) -> Spoil:
    """Write bytes."""
    return lambda folder: (folder / file).write_bytes(content)


def instead_of_a_file(folder: Path) -> None:
    (folder / "pairs" / "train.jsonl").unlink()
    (folder / "pairs" / "train.jsonl").mkdir()


def truncated(folder: Path) -> None:
    weights = folder / "tiny" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def without_pad(folder: Path) -> None:
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (file := folder / "tiny" / name).exists():
            kept = {k: v for k, v in json.loads(file.read_text()).items() if k != "pad_token"}
            file.write_text(json.dumps({**kept, "tokenizer_class": "PreTrainedTokenizerFast"}))


def nothing(folder: Path) -> None:
    del folder


TRAIN = "pairs/train.jsonl"
FACTS, PHRASES = "data.datasets.facts", "data.datasets.phrases"

# what it is: (how the toy data or model is spoiled, overrides, the exact message; {toy} is the folder)
TABLE: dict[str, tuple[Spoil, list[str], str]] = {
    "an empty dataset": (lines(TRAIN), [], "{toy}/pairs/train.jsonl: no rows."),
    "one row": (
        lines(TRAIN, PAIR), [],
        "facts: expected at least 2 train rows (a batch has 2 rows or more and one on each of 1 ranks, a step 1 batches of a "
        "dataset), got 1. Add rows, or leave the dataset out of the training.",
    ),
    "more parts than the dataset fills": (
        nothing, [f"{FACTS}.batch_size=64", f"{PHRASES}.batch_size=64", "sampler=mixed", "sampler.num_parts=32"],
        "The datasets do not fill one step, batches of a step: 32 (facts: 48 rows, batch 64): lower batch_size or accumulate.",
    ),
    "an anchor, and one positive for all": (
        lines(TRAIN, *[{"query": f"the cat {n}", "positives": ["a cat"]} for n in range(48)]), [],
        "facts: none of its rows teaches anything: all documents of their batch are equal to their query or their positives. "
        "Give other positives, negatives of their own (mining=hard), or a larger batch_size; if a few documents are the "
        "positives of all queries, they are labels: use task=classification.",
    ),
    "one query": (
        lines(TRAIN, *[{"query": "the cat", "positives": [f"a cat {n}"]} for n in range(48)]), [],
        "facts: all its queries are equal, so that the positives of a row are negatives of the others. Expected rows of "
        "several queries: join the positives of a query in one row, or leave it out.",
    ),
    "graded pairs of one text": (
        lines("scores/train.jsonl", *[{"text1": f"cat {n}", "text2": f"cat {n}", "score": n % 2} for n in range(48)]), [],
        "phrases: none of its rows teaches anything: text1 and text2 are one text, whose cosine is always 1. Remove them; "
        "for SimCSE, give retrieval rows whose positive is the query.",
    ),
    "negatives that are the positives": (
        lines(TRAIN, *[{"query": f"the cat {n}", "positives": [f"a {n}"], "negatives": [f"a {n}"]} for n in range(48)]),
        ["retrieval_loss.in_batch=false"],
        "facts: none of its rows teaches anything: their negatives are equal to their query or their positives. Give other "
        "negatives (mining=hard), or choose a loss with in-batch negatives (infonce with in_batch=true).",
    ),
    "a teacher that scores all alike": (
        lines(TRAIN, *[{**PAIR, "query": f"cat {n}", "positive_scores": [2], "negative_scores": [2]} for n in range(48)]),
        ["loss@retrieval_loss=distill"],
        "facts: its loss learns from a teacher, whose scores are all 2: they rank nothing. Give scores that differ, or choose "
        "another loss.",
    ),
    "all scores equal": (
        lines("scores/train.jsonl", *[SCORED] * 8), [],
        "phrases: the scores of all 8 train rows are equal: nothing to learn from.",
    ),
    "a score that is NaN": (
        lines("scores/train.jsonl", SCORED, '{"text1": "a", "text2": "b", "score": NaN}'), [],
        "{toy}/scores/train.jsonl: line 2: 'score' must be a number, got float nan.",
    ),
    "a score out of range": (
        lines("scores/train.jsonl", {**SCORED, "score": 7}), [],
        "{toy}/scores/train.jsonl: line 1: 'score' is 7, outside of score_range [0, 1]. Give the dataset score_range: "
        "[lowest, highest] of what can be.",
    ),
    "no negatives where the loss needs them": (
        lines(TRAIN, *[{**PAIR, "negatives": []}] * 8), ["retrieval_loss.in_batch=false"],
        "facts: its loss compares a row only with its own negatives, and its rows have none. "
        "Add negatives (mining=hard), raise num_negatives, or choose another loss (infonce with in_batch=true).",
    ),
    "no teacher where the loss needs one": (
        nothing, ["loss@retrieval_loss=distill"],
        "facts: its loss learns from a teacher, and its rows have no positive_scores and negative_scores. "
        "Add them (mining.scores=cross_encoder writes them), or choose another loss.",
    ),
    "an unknown task": (
        nothing, [f"{FACTS}.task=retreival"],
        "data.datasets.facts.task=retreival: Invalid value 'retreival', expected one of [retrieval, sts, classification, clustering]",
    ),
    "prompts for an absent dataset": (
        nothing, ["+encoder.prompts.fact-query='query: '"],
        "encoder.prompts.fact-query: no role, task or dataset of that name. Did you mean 'facts'? "
        "Known: classification, clustering, document, facts, phrases, query, retrieval, sts.",
    ),
    "mining for an absent dataset": (
        nothing, ["mining=hard", "mining.datasets=[fact]"],
        "mining.datasets: no dataset 'fact'. Did you mean 'facts'? Known: facts, phrases.",
    ),
    "mining for scores": (
        nothing, ["mining=hard", "mining.datasets=[phrases]"],
        "mining.datasets: only queries have hard negatives, and phrases is sts.",
    ),
    "an update of an empty folder": (
        lambda folder: (folder / "old").mkdir(), ["experts=update", "experts.new=[facts]", "experts.existing={toy}/old"],
        "{toy}/old: expected model.safetensors or model.safetensors.index.json, found none. Give a directory that save_pretrained wrote.",
    ),
    "a weight by size of a model of unknown size": (
        nothing, ["experts=update", "experts.new=[facts]", "experts.existing={toy}/tiny", "merge=soup", "merge.weighting=size"],
        "weighting=size, but the sizes of the sources are [None, 67]. Give their rows, or use weighting=equal or given.",
    ),
    "no steps": (
        nothing, ["trainer.max_steps=0"],
        "trainer.max_steps=0 and max_epochs=-1: give numbers from 1, or -1 for no limit.",
    ),
    "memory below nothing": (nothing, ["step_memory=-3"], "step_memory must be at least 0, got -3.0."),
    "a norm of nothing": (nothing, ["max_grad_norm=0"], "max_grad_norm must be positive or null, got 0.0."),
    "a long warm-up": (
        nothing, ["scheduler.warmup_share=2"], "scheduler.warmup_share must be a share in [0, 1], got 2.",
    ),
    "no warm-up": (
        nothing, ["scheduler.warmup_share=null"], "scheduler.warmup_share must be a share in [0, 1], got None.",
    ),
    "a directory with no model": (
        lambda folder: [shutil.rmtree(folder / "tiny"), (folder / "tiny").mkdir()], [],
        "encoder.path='{toy}/tiny': expected a hub name, or a directory with config.json, weights and a tokenizer; AutoConfig reports: "
        "Unrecognized model in {toy}/tiny. Should have a `model_type` key in its config.json. Check the name, or the files in it.",
    ),
    "a truncated safetensors file": (
        truncated, [],
        "encoder.path='{toy}/tiny': expected a hub name, or a directory with config.json, weights and a tokenizer; AutoModelForTextEncoding reports: "
        "Error while deserializing header: invalid header length. Check the name, or the files in it.",
    ),
    "a tokenizer without a pad token": (
        without_pad, [],
        "{toy}/tiny: expected the tokenizer of the model, with a padding token, got one with no padding token. "
        "Save the right tokenizer into the directory (tokenizer.save_pretrained).",
    ),
    "a text as a list": (
        lines(TRAIN, {**PAIR, "query": ["the cat"]}), [],
        "{toy}/pairs/train.jsonl: line 1: 'query' must be a text, got list ['the cat'].",
    ),
    "an empty text": (
        lines(TRAIN, {**PAIR, "query": " "}), [], "{toy}/pairs/train.jsonl: line 1: 'query' is an empty text.",
    ),
    "a missing column": (
        lines(TRAIN, {"query": "q"}), [],
        "{toy}/pairs/train.jsonl: line 1: column 'positives' is missing; the row has 'query'.",
    ),
    "a blank line": (
        lines(TRAIN, PAIR, ""), [], "{toy}/pairs/train.jsonl: line 2: a blank line; expected one JSON object.",
    ),
    "broken JSON": (
        lines(TRAIN, PAIR, "{"), [],
        "{toy}/pairs/train.jsonl: line 2: broken JSON, Expecting property name enclosed in double quotes at character 2; "
        "expected one JSON object.",
    ),
    "a byte order mark in mid-file": (
        lines(TRAIN, PAIR, "\ufeff" + json.dumps(PAIR)), [], "{toy}/pairs/train.jsonl: line 2: broken JSON, Unexpected UTF-8 BOM (decode using utf-8-sig) at character 0; "
        "expected one JSON object.",
    ),
    "bytes that are not UTF-8": (
        raw(TRAIN, b'{"query": "caf\xe9"}\n'), [], "{toy}/pairs/train.jsonl: line 1: byte 14 is not UTF-8.",
    ),
    "a huge line": (
        raw(TRAIN, b'{"query": "' + b"a" * 2**26 + b'"}\n'), [],
        "{toy}/pairs/train.jsonl: line 1: longer than 64 MiB; expected one JSON object per line.",
    ),
    "a directory in place of a file": (
        instead_of_a_file, [],
        "{toy}/pairs/train.jsonl: expected a file of rows (.jsonl, .json, .csv, .tsv, their .gz, .bz2, .xz, .zst, or .parquet), "
        "found a folder.",
    ),
    "a dangling link in place of a file": (
        lambda folder: [(folder / TRAIN).unlink(), (folder / TRAIN).symlink_to("absent")], [],
        "{toy}/pairs/train.jsonl: expected a file of rows (.jsonl, .json, .csv, .tsv, their .gz, .bz2, .xz, .zst, or .parquet), "
        "found a symbolic link to absent, which does not exist.",
    ),
    "a looping link in place of a dev set": (
        lambda folder: [(folder / "pairs/dev.jsonl").unlink(), (folder / "pairs/dev.jsonl").symlink_to("dev.jsonl")], [],
        "{toy}/pairs/dev.jsonl: expected a file of rows (.jsonl, .json, .csv, .tsv, their .gz, .bz2, .xz, .zst, or .parquet), "
        "found a symbolic link that leads to itself.",
    ),
    "a pipe in place of a file": (
        lambda folder: [(folder / TRAIN).unlink(), os.mkfifo(folder / TRAIN)], [],
        "{toy}/pairs/train.jsonl: expected a file of rows (.jsonl, .json, .csv, .tsv, their .gz, .bz2, .xz, .zst, or .parquet), "
        "found a named pipe.",
    ),
    "half of a character": (
        lines(TRAIN, PAIR, '{"query": "cat \\ud83d", "positives": ["a cat"]}'), [],
        "{toy}/pairs/train.jsonl: line 2: 'query' has \\ud83d at character 4, half of a surrogate pair: a text cut in the "
        "middle of a character? Mend or remove it.",
    ),
    "a number of 5,000 digits": (
        lines(TRAIN, '{"query": "cat", "positives": ["a cat"], "id": ' + "9" * 5000 + "}"), [],
        "{toy}/pairs/train.jsonl: line 1: a number of more than 4,300 digits; expected one JSON object.",
    ),
    "a deep line": (
        lines(TRAIN, "[" * 10**5), [],
        "{toy}/pairs/train.jsonl: line 1: JSON nested too deeply; expected one JSON object.",
    ),
    "gzip with the name of text": (
        raw(TRAIN, gzip.compress(b"{}")), [],
        "{toy}/pairs/train.jsonl: its name says text, its content is gzip. Name it .jsonl.gz.",
    ),
    "columns of two formats": (
        lines(TRAIN, *[{"query": "the cat", "pos": ["a cat"], "negatives": ["a dog"]}] * 8), [],
        "facts: the train rows, from row 1 on, have columns that are not read and resemble ours: 'negatives'. "
        'To read them: "+data.datasets.facts.columns={negatives: negatives}"; to leave them out: '
        '"data.datasets.facts.ignore_columns=[negatives]".',
    ),
    "columns of no format": (
        lines("scores/train.jsonl", {"sentence_A": "a", "sentence_B": "b", "relatedness_score": 1}), [],
        "{toy}/scores/train.jsonl: line 1: column 'score' is missing; the row has 'sentence_A', 'sentence_B', "
        "'relatedness_score'. To read these, give the dataset columns: "
        "{text1: sentence_A, text2: sentence_B, score: relatedness_score}.",
    ),
    "two broken datasets": (
        lambda folder: [lines(TRAIN, {"query": "q"})(folder), lines("scores/test.jsonl", {**SCORED, "score": 7})(folder)],
        [],
        "{toy}/pairs/train.jsonl: line 1: column 'positives' is missing; the row has 'query'.\n"
        "{toy}/scores/test.jsonl: line 1: 'score' is 7, outside of score_range [0, 1]. Give the dataset score_range: "
        "[lowest, highest] of what can be.",
    ),
    "latin-1 judgements": (
        lambda folder: [
            lines("pairs/corpus.jsonl", {"id": "1", "text": "a cat"})(folder),
            lines("pairs/queries.jsonl", {"id": "caf\xe9", "text": "the cat"})(folder),
            raw("pairs/qrels.tsv", "caf\xe9\t1\t1\n".encode("latin-1"))(folder),
        ], [],
        "{toy}/pairs/qrels.tsv: line 1: byte 3 is not UTF-8.",
    ),
    "a merge that gets one source": (
        nothing, ["experts=joint", "merge=slerp"], "merge=slerp takes at least 2 sources, got 1. Change sources or experts.",
    ),
    "the test as the target": (
        nothing, ["optimized_metric=test/mean"],
        "optimized_metric=test/mean: test scores may not choose. "
        "Use dev/mean, dev/retrieval, dev/sts, dev/classification, dev/clustering.",
    ),
    "a choice by dev scores without scores": (
        nothing, ["merge=greedy_soup", "evaluation=none"],
        "merge=greedy_soup chooses by dev scores, and evaluation=none gives no scores. Use evaluation=local.",
    ),
    "a batch that the ranks cannot share": (
        nothing, ["trainer.devices=3"],
        "facts: batch_size=8 rows cannot be shared equally by 3 ranks: use 6 or 9.\n"
        "phrases: batch_size=8 rows cannot be shared equally by 3 ranks: use 6 or 9.",
    ),
    "a batch that mixed cannot cut": (
        nothing, ["sampler=mixed", "sampler.num_parts=3"], "mixed: batch_size=8 cannot be cut into 3 equal parts of 2 rows or more: use batch_size 6 or 9, or a different num_parts.",
    ),
    "an update without news": (
        nothing, ["experts=update"], "experts=update needs experts.new=[...], the new datasets. Known: facts, phrases.",
    ),
    "shares for another dataset": (
        nothing, ["sampler=proportional", "+sampler.step_shares={fact: 1}"], "proportional: step_shares has no share for the dataset facts. Did you mean 'fact'? Known: fact.",
    ),
    "matryoshka longer than the embedding": (
        nothing, ["loss@retrieval_loss=matryoshka"], "matryoshka: dims=[384, 192, 96] of embeddings with 32 dimensions. Use dims up to 32.",
    ),
}  # fmt: skip


def checked(root: str, given: list[str]) -> DictConfig:
    """The config of a command without mistakes, from the composition that looked for them."""
    made: list[DictConfig] = []

    def kept(*arguments: Any, **options: Any) -> DictConfig:
        made.append(hydra.compose(*arguments, **options))
        return made[-1]

    with mock.patch.object(compose, "compose", kept):
        compose.check_command(root, given)
    with flag_override(made[0], ["read_only", "struct"], False):
        del made[0]["hydra"]
    return made[0]


def attempt(folder: Path, tiny_model: Path, spoil: Spoil, overrides: list[str], *more: str) -> str:
    """The message of a run on the spoiled toy; a command's mistakes are found before, as on the command line."""
    toy = write_toy(folder)
    shutil.copytree(tiny_model, toy / "tiny")
    spoil(toy)
    given = _overrides(
        toy / "tiny",
        toy,
        folder / "run",
        "merge=none",
        "evaluation=none",
        *(part.replace("{toy}", str(folder)) for part in (*overrides, *more)),
    )

    with pytest.raises(LightningEmbedError) as caught:
        train.train(checked("train", given))
    return str(caught.value).replace(str(folder), "{toy}")


@pytest.mark.parametrize("name", TABLE)
def test_one_sentence(name: str, tiny_model: Path, tmp_path: Path) -> None:
    spoil, overrides, expected = TABLE[name]
    assert attempt(tmp_path, tiny_model, spoil, overrides) == expected
    assert not (tmp_path / "run" / "models" / "joint").exists()


def labelled(folder: Path, *records: dict) -> list[str]:
    """Overrides of a run on a classification set instead of the pairs."""
    (folder / "labels").mkdir()
    (folder / "labels" / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    return [f"{FACTS}.path={folder}/labels", f"{FACTS}.task=classification", f"{FACTS}.dev_share=0"]


@pytest.mark.parametrize(
    ("records", "overrides", "expected"),
    [
        (
            [{"text": "a"}], [],
            "{toy}/labels/train.jsonl: line 1: column 'label' is missing; the row has 'text'.",
        ),
        (
            [{"text": "a", "label": ["x"]}], [],
            "{toy}/labels/train.jsonl: line 1: 'label' must be a text or a whole number, got list ['x'].",
        ),
        (
            [{"text": f"a {n}", "label": n % 2} for n in range(16)], [f"{FACTS}.num_negatives=0"],
            "facts: its loss compares a row only with its own negatives, and its rows have none. "
            "Add negatives (mining=hard), raise num_negatives, or choose another loss (infonce with in_batch=true).",
        ),
    ],
)  # fmt: skip
def test_labels(records: list, overrides: list[str], expected: str, tiny_model: Path, tmp_path: Path) -> None:
    given: list[str] = []
    assert (
        attempt(tmp_path, tiny_model, lambda toy: given.extend(labelled(toy, *records)), given, *overrides) == expected
    )


def test_duplicate_dataset(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    mine = (
        "defaults: [schema/data@_here_]\nroot: null\ndatasets:\n  a: {task: sts, path: x}\n  a: {task: sts, path: y}\n"
    )
    (tmp_path / "data" / "mine.yaml").write_text(mine)
    GlobalHydra.instance().clear()
    with pytest.raises(LightningEmbedError) as caught:
        compose.check_command("train", ["data=mine"], str(tmp_path))
    assert "\n" not in str(caught.value)
    assert re.search(r"mine.yaml.*line 5.*duplicate key a", str(caught.value))


def spoiled(folder: Path, change: Callable[[dict[str, torch.Tensor]], object], source: str = "s1") -> None:
    """Write a source again, with other tensors."""
    tensors = merge_toy.read(folder / source)
    change(tensors)
    save_file(tensors, folder / source / "model.safetensors")


def cut(size: int) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / "s1" / "model.safetensors"
        file.write_bytes(file.read_bytes()[:size])

    return spoil


def pickled(folder: Path) -> None:
    (folder / "s1" / "model.safetensors").unlink()
    torch.save({"a": torch.ones(1)}, folder / "s1" / "pytorch_model.bin")


def adapter_of_a_name(folder: Path) -> None:
    (folder / "s1" / "model.safetensors").unlink()
    (folder / "s1" / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "hub/name"}')


WORD, BASE = "embeddings.word.weight", "base={toy}/s0"
MERGES: dict[str, tuple[Spoil, list[str], str]] = {
    "nothing to merge": (
        nothing, ["sources=[]"], "sources is missing: give it as sources=[...], or repeat a merge by recipe=<its merge.json>.",
    ),
    "a source that is not there": (
        nothing, ["sources=[{toy}/s0,{toy}/t*]"],
        "{toy}/t* is not a directory: sources and base are local model directories.",
    ),
    "a header cut short": (
        cut(60), [],
        "{toy}/s1/model.safetensors is not a complete safetensors file (Error while deserializing header: invalid header length). Copy it again.",
    ),
    "data cut short": (
        cut(-1), [],
        "{toy}/s1/model.safetensors is not a complete safetensors file (Error while deserializing header: incomplete metadata, "
        "file not fully covered). Copy it again.",
    ),
    "an empty file": (
        cut(0), [],
        "{toy}/s1/model.safetensors is not a complete safetensors file (Error while deserializing header: header too small). Copy it again.",
    ),
    "a header of other bytes": (
        raw("s1/model.safetensors", b"\x10" + bytes(7) + b"\xff" * 40), [],
        "{toy}/s1/model.safetensors is not a complete safetensors file (Error while deserializing header: invalid UTF-8 in header: "
        "invalid utf-8 sequence of 1 bytes from index 0). Copy it again.",
    ),
    "a pickle": (
        pickled, [],
        "{toy}/s1: expected model.safetensors or model.safetensors.index.json, found only pytorch_model.bin. A pickle can run code and is "
        "never opened: export it, with save_pretrained, to a directory with safetensors.",
    ),
    "a pickle that is called safetensors": (
        lambda folder: torch.save({"a": torch.ones(1)}, folder / "s1" / "model.safetensors"), [],
        "{toy}/s1/model.safetensors is not a complete safetensors file (Error while deserializing header: header too large). Copy it again.",
    ),
    "other shapes": (
        lambda folder: spoiled(folder, lambda t: t.update({WORD: torch.ones(60, 8)})), [],
        "Only models of one architecture and vocabulary can be merged; 's0' and 's1' differ in 1 tensors: embeddings.word.weight is [50, 8] "
        "in 's0' and [60, 8] in 's1'. If only their vocabularies differ, vocabulary=first (or base) merges them by token.",
    ),
    "NaN in a source": (
        lambda folder: spoiled(folder, lambda t: t[WORD][3].fill_(torch.nan)), [],
        "'s1' has NaN or infinity in embeddings.word.weight. Leave it out of the merge, or export it again.",
    ),
    "infinity in the base": (
        lambda folder: spoiled(folder, lambda t: t[WORD][3].fill_(torch.inf), "s0"), ["sources=[{toy}/s1]", BASE, "merge=task_arithmetic"],
        "'base' has NaN or infinity in embeddings.word.weight. Leave it out of the merge, or export it again.",
    ),
    "other buffers": (
        lambda folder: spoiled(folder, lambda t: t.update({merge_toy.BUFFER: torch.zeros(5, dtype=torch.int64)})), [],
        "encoder.layer.1.steps has torch.int64 values, which cannot be averaged, and differs between 's0' and 's1'. Make it equal, or leave "
        "one of the models out.",
    ),
    "an adapter of a model that is not there": (
        adapter_of_a_name, [],
        "{toy}/s1 is an adapter of 'hub/name', which is not a directory on this machine. Give base=<a directory of that model>.",
    ),
    "no base for deltas": (
        nothing, ["merge=ties"],
        "merge=ties needs the base and got none. Give base=<the model that all sources started from>.",
    ),
    "a rule for no layer": (
        nothing, [BASE, "merge.layers=['encoder.layer.7.*=0.5']"],
        "layers: 'encoder.layer.7.*=0.5' matches no parameter. A rule must match a whole name, such as 'encoder.layer.1.scale'.",
    ),
}  # fmt: skip


def merge_command(folder: Path, spoil: Spoil, *overrides: str) -> list[str]:
    """What to give merge.py, for two small models, one of them spoiled."""
    for number, tensors in enumerate(merge_toy.family(2)[1]):
        merge_toy.write(folder / f"s{number}", tensors)
    spoil(folder)
    given = (part.replace("{toy}", str(folder)) for part in overrides)
    return [f"sources=[{folder}/s0,{folder}/s1]", f"out={folder}/out", "evaluation=none", "logger=none", *given]


@pytest.mark.parametrize("name", MERGES)
def test_one_sentence_of_a_merge(name: str, tmp_path: Path) -> None:
    spoil, overrides, expected = MERGES[name]
    given = merge_command(tmp_path, spoil, *overrides)

    with pytest.raises(LightningEmbedError) as caught:
        merge.merge(checked("merge", given))
    assert str(caught.value).replace(str(tmp_path), "{toy}") == expected
    assert not list(tmp_path.glob("out/merged/*"))
    assert not list(tmp_path.glob("out/merged/.*"))


def test_no_traceback_of_a_merge(tmp_path: Path) -> None:
    spoil, overrides, expected = MERGES["NaN in a source"]
    command = [sys.executable, str(ROOT / "merge.py"), *merge_command(tmp_path, spoil, *overrides)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
    assert done.returncode == 2
    assert done.stderr.strip() == f"CheckpointError: {expected}"
    assert "Traceback" not in done.stdout


def test_one_source_to_merge(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(LightningEmbedError) as caught:
        merge.merge(_cfg("merge", [f"sources=[{tiny_model}]", "merge=slerp", f"out={tmp_path}/out", "evaluation=none"]))
    assert str(caught.value) == "merge=slerp takes at least 2 sources, got 1. Change sources or experts."


def test_a_byte_order_mark_at_the_start_is_read(tmp_path: Path) -> None:
    from lightning_embed import DatasetOptions, Task, load_datasets

    file = tmp_path / "train.jsonl"
    file.write_bytes(
        b"\xef\xbb\xbf" + b"".join(json.dumps({**PAIR, "query": f"q{n}"}).encode() + b"\n" for n in range(4))
    )
    data = load_datasets({"a": DatasetOptions(Task.retrieval, str(file), dev_share=0.0)}, cache=tmp_path / "cache")
    assert data["a"].train is not None
    assert data["a"].train.table["query"][0] == "q0"


@pytest.mark.slow
def test_no_traceback(tiny_model: Path, tmp_path: Path) -> None:
    """As a person sees it: one line on the terminal, and a status that says failed."""
    toy = write_toy(tmp_path)
    lines(TRAIN, PAIR, "")(toy)
    command = [sys.executable, str(ROOT / "train.py"), *_overrides(tiny_model, toy, tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
    assert done.returncode == 2
    said = (done.stdout + done.stderr).strip()
    assert said == f"DataError: {toy}/pairs/train.jsonl: line 2: a blank line; expected one JSON object."
