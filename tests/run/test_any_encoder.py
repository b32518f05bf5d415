"""Whole runs on encoders of other kinds: trained, merged by four words, measured, opened by sentence-transformers."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

from lightning_embed import load
from lightning_embed.config import schema
from lightning_embed.run import merge, train
from tests.encoder.conftest import build as build
from tests.toy import write_toy

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

TEXTS = ["the red bird", "a cat", "the big dog runs in the old house near the river"]
PROMPTS = {"query": "small green: ", "document": "old: "}
Build = Callable[..., Path]


def _headed(body: Path, folder: Path, *head: torch.nn.Module) -> Path:
    parts = [modules.Transformer(str(body), max_seq_length=40), *head]
    SentenceTransformer(modules=parts, prompts=PROMPTS, device="cpu").save(str(folder))
    return folder


def _t5(build: Build, tiny: Path, folder: Path) -> Path:
    """As gtr-t5: the mean of a T5 encoder, and a dense layer without bias."""
    torch.manual_seed(0)
    dense = modules.Dense(32, 24, bias=False, activation_function=torch.nn.Identity())
    return _headed(build("t5"), folder, modules.Pooling(32), dense, modules.Normalize())


def _dense(build: Build, tiny: Path, folder: Path) -> Path:
    torch.manual_seed(0)
    return _headed(tiny, folder, modules.Pooling(32, "cls"), modules.Dense(32, 32), modules.Normalize())


def _without_prompt(build: Build, tiny: Path, folder: Path) -> Path:
    return _headed(tiny, folder, modules.Pooling(32, include_prompt=False), modules.Normalize())


def _both_ways(build: Build, tiny: Path, folder: Path) -> Path:
    return build("qwen3", is_causal=False)


def _run(root: str, story: Callable[..., object], *overrides: str) -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(schema.conf_folder())):
        story(compose(root, list(overrides)))


@pytest.mark.parametrize("make", [_t5, _dense, _without_prompt, _both_ways])
def test_train_merge_measure_and_open(
    make: Callable[..., Path], build: Build, tiny_model: Path, tmp_path: Path
) -> None:
    base, toy, out = make(build, tiny_model, tmp_path / "base"), write_toy(tmp_path / "toy"), tmp_path / "run"
    data = [
        "data=sample", f"data.root={toy}", *(f"data.datasets.{name}.{key}" for name, path in (("facts", "pairs"), ("phrases", "scores"))
        for key in (f"path={toy}/{path}", "batch_size=8")), "data.datasets.phrases.score_range=[0,1]",
    ]  # fmt: skip
    _run(
        "train", train.train, f"encoder.path={base}", "encoder.max_length=40", f"out={out}", *data, "merge=soup",
        "trainer.max_steps=4", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "callback=default",
        "optimizer.lr=1e-3", "logger=none",
    )  # fmt: skip
    sources = [out / "models/retrieval", out / "models/sts"]
    for word in ("ties", "self_positioning", "regmean"):
        probe = [] if word == "ties" else ["probe.num_rows=32"]
        _run(
            "merge", merge.merge, f"sources=[{sources[0]},{sources[1]}]", f"base={out}/models/base", f"merge={word}",
            f"out={tmp_path}/{word}", *data, "logger=none", *probe,
        )  # fmt: skip
    folders = [out, *(tmp_path / word for word in ("ties", "self_positioning", "regmean"))]
    merged = [next(folder.glob("merged/*/model")) for folder in folders]
    assert (out / "results.json").exists()
    for folder in (*sources, *merged):
        ours, theirs = load(folder), SentenceTransformer(str(folder), device="cpu")
        for prompt in ("", "small green: "):
            found = theirs.encode(TEXTS, prompt=prompt, convert_to_tensor=True)
            torch.testing.assert_close(ours.encode(TEXTS, prompt=prompt), found, atol=1e-5, rtol=0)
    for name, weight in load(merged[0]).named_weights().items():  # the head as well
        one, other = (load(source).named_weights()[name] for source in sources)
        torch.testing.assert_close(weight, (one + other) / 2, atol=1e-6, rtol=0, msg=name)
    assert load_file(merged[0] / "model.safetensors")


def test_a_cut_base_is_the_base_of_all(build: Build, tmp_path: Path) -> None:
    """Trained, merged and measured: experts, task vectors and the base of the table have the layers that were kept."""
    base, toy, out = build("bert", num_hidden_layers=4), write_toy(tmp_path / "toy"), tmp_path / "run"
    data = [
        "data=sample", f"data.root={toy}", *(f"data.datasets.{name}.{key}" for name, path in (("facts", "pairs"), ("phrases", "scores"))
        for key in (f"path={toy}/{path}", "batch_size=8")), "data.datasets.phrases.score_range=[0,1]",
    ]  # fmt: skip
    _run(
        "train", train.train, f"encoder.path={base}", "encoder.num_layers=2", "encoder.max_length=40", f"out={out}", *data,
        "merge=ties", "trainer.max_steps=2", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false", "logger=none",
    )  # fmt: skip
    (merged,) = out.glob("merged/ties-*/model")
    layers = {}
    for folder in (out / "models/base", out / "models/retrieval", out / "models/sts", merged):
        layers[folder.name] = load(folder).backbone.config.num_hidden_layers
    assert set(layers.values()) == {2}
    whole, cut = load(base).encode(TEXTS), load(out / "models/base").encode(TEXTS)
    assert not torch.allclose(whole, cut, atol=1e-3)
    assert "the first 2 of the base" in (out / "models/sts/README.md").read_text()
