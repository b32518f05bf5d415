"""`trainer.strategy=fsdp`: several ranks that share one model train what one process trains."""

import json
import os
import random
import shutil
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

from lightning_embed import load
from lightning_embed.callback.resume import read
from lightning_embed.errors import CheckpointError
from lightning_embed.run import train
from lightning_embed.runtime import distributed
from tests.run.test_train import _cfg, _overrides
from tests.toy import COLOURS, NOUNS, write_toy
from tests.training.sharded_ranks import CASES, HALF, trained, with_callbacks

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ON_FOUR = ("plain", "partial", "lora")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of 1 to 20 words, so that ranks differ in their number of chunks."""
    folder, draw = write_toy(tmp_path_factory.mktemp("toy")), random.Random(5)

    def text() -> str:
        return " ".join(draw.choices(NOUNS + COLOURS, k=draw.choice((1, 2, 3, 20))))

    pairs = [{"query": text(), "positives": [text()], "negatives": [text(), text()]} for _ in range(48)]
    scores = [{"text1": text(), "text2": text(), "score": draw.random()} for _ in range(48)]
    for name, rows in (("pairs", pairs), ("scores", scores)):
        (folder / name / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a layer in the head."""
    torch.manual_seed(3)
    parts = [modules.Transformer(str(tiny_model)), modules.Pooling(32), modules.Dense(32, 15), modules.Normalize()]
    folder = tmp_path_factory.mktemp("model")
    SentenceTransformer(modules=parts, device="cpu").save(str(folder))
    return folder


@pytest.fixture(scope="module")
def one(model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process finds, not sharded."""
    out = tmp_path_factory.mktemp("one")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: dict[str, Any] = {name: trained(model, toy, case) for name, case in CASES.items()}
        found["callbacks"] = with_callbacks(model, toy, out)
    return found | {"out": out}


def _ranks(number: int, model: Path, toy: Path, out: Path, checkpoint: Path, cases: Sequence[str]) -> dict[str, Any]:
    """What several gloo processes find."""
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={number}", "--standalone"]
    command = [*launch, "-m", "tests.training.sharded_ranks", *map(str, (model, toy, out, checkpoint)), *cases]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = torch.load(out / "found.pt")
    return found | {"out": out}


@pytest.fixture(scope="module")
def two(model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """All cases, of which the last one leaves a checkpoint."""
    out = tmp_path_factory.mktemp("two")
    return _ranks(2, model, toy, out, out / "none", list(CASES))


@pytest.fixture(scope="module")
def four(two: dict[str, Any], model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Some cases, and one that goes on from the checkpoint of two ranks."""
    out = tmp_path_factory.mktemp("four")
    return _ranks(4, model, toy, out, two["out"] / "half.ckpt", ON_FOUR)


def _assert_equal(found: dict[str, Any], expected: dict[str, Any], losses: float = 1e-5, weights: float = 1e-6) -> None:
    torch.testing.assert_close(found["losses"], expected["losses"], rtol=0, atol=losses)
    torch.testing.assert_close(found["weights"], expected["weights"], rtol=0, atol=weights)


@pytest.mark.parametrize("case", [name for name in CASES if name not in ("bfloat16", "muon")])
def test_two_ranks_equal_one(case: str, one: dict[str, Any], two: dict[str, Any]) -> None:
    _assert_equal(two[case], one[case])
    assert two[case]["share"] == pytest.approx(one[case]["share"] / 2, rel=0.01), "a rank holds its half"


@pytest.mark.parametrize("case", ON_FOUR)
def test_four_ranks_equal_one(case: str, one: dict[str, Any], four: dict[str, Any]) -> None:
    _assert_equal(four[case], one[case])
    assert four[case]["share"] == pytest.approx(one[case]["share"] / 4, rel=0.02), "a rank holds its quarter"


def test_bfloat16(one: dict[str, Any], two: dict[str, Any]) -> None:
    """The arithmetic is that of one process; sums over ranks are in another order, which AdamW magnifies."""
    _assert_equal(two["bfloat16"], one["bfloat16"], losses=1e-3, weights=1e-3)
    assert not torch.equal(one["bfloat16"]["losses"], one["plain"]["losses"])


def test_muon(model: Path, one: dict[str, Any], two: dict[str, Any]) -> None:
    """Its iteration rounds to bfloat16 and enlarges small directions, noise too: equal to a part of the way, not to the bit."""
    torch.testing.assert_close(two["muon"]["losses"], one["muon"]["losses"], rtol=0, atol=1e-4)
    start = load(model).state_dict()
    for name, weight in one["muon"]["weights"].items():
        way, apart = weight - start[name], two["muon"]["weights"][name] - weight
        assert apart.norm() <= 0.15 * way.norm() + 1e-6, (name, float(apart.norm() / way.norm()))


def test_ranks_with_fewer_chunks_run_as_many(two: dict[str, Any], four: dict[str, Any]) -> None:
    """Else the layers of the others would wait for theirs: those without a text were needed in these trainings."""
    assert min(two[case]["added"] for case in ("plain", "cached", "partial", "lora")) > 0
    assert min(four[case]["added"] for case in ON_FOUR) > 0


@pytest.mark.parametrize("name", ["snapshot", "average", "last"])
def test_what_reads_weights_beside_a_training(name: str, one: dict[str, Any], two: dict[str, Any]) -> None:
    """The snapshot, the average, and the weights of the best step, as rank zero wrote them."""
    found, expected = (load_file(each["out"] / name / "model.safetensors") for each in (two, one))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    configs = [json.loads((each["out"] / name / "config.json").read_text()) for each in (two, one)]
    assert configs[0] == configs[1]


def test_the_best_step_was_not_the_last(one: dict[str, Any], two: dict[str, Any]) -> None:
    """Else the comparison above would not tell whether it was loaded."""
    assert not torch.equal(load_file(two["out"] / "last" / "model.safetensors")["encoder.layer.0.output.dense.weight"],
                           two["plain"]["weights"]["backbone.encoder.layer.0.output.dense.weight"])  # fmt: skip


def test_four_ranks_go_on_from_two(one: dict[str, Any], four: dict[str, Any]) -> None:
    expected = {**one["plain"], "losses": one["plain"]["losses"][HALF:]}
    _assert_equal(four["resumed"], expected)


def test_one_rank_goes_on_from_two(
    one: dict[str, Any], two: dict[str, Any], model: Path, toy: Path, tmp_path: Path
) -> None:
    try:
        found = trained(model, toy, CASES["plain"], sharded=True, checkpoint=two["out"] / "half.ckpt")
        with pytest.raises(CheckpointError, match="a training that was not sharded: expected a folder"):
            trained(model, toy, CASES["plain"], sharded=True, checkpoint=one["out"] / "half.ckpt")
    finally:
        distributed.leave()
    _assert_equal(found, {**one["plain"], "losses": one["plain"]["losses"][HALF:]})
    with pytest.raises(CheckpointError, match="a sharded training: expected a file"):
        trained(model, toy, CASES["plain"], checkpoint=two["out"] / "half.ckpt")


@pytest.mark.parametrize("lost", ["state.ckpt", "shard-00001", "shard-00002"])
def test_a_sharded_checkpoint_that_is_not_whole_is_named(lost: str, two: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "last.ckpt"
    shutil.copytree(two["out"] / "half.ckpt", folder)
    (file,) = (path for path in folder.iterdir() if path.name.startswith(lost))
    file.unlink()
    with pytest.raises(CheckpointError, match=r"last\.ckpt (is not a whole|lacks the file of a rank).* Delete it"):
        read(folder)


def test_a_whole_run(tiny_model: Path, tmp_path: Path) -> None:
    """By the command line on two devices, as in one process: experts, their averages and the merge."""
    still = shutil.copytree(tiny_model, tmp_path / "still")
    config = json.loads((still / "config.json").read_text())
    without = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (still / "config.json").write_text(json.dumps(config | without))
    data = write_toy(tmp_path / "data")

    def given(out: str, *more: str) -> list[str]:
        options = ("evaluation=none", "experts.ema=0.9", "encoder.dtype=float32", "checkpoint_minutes=0", *more)
        return _overrides(still, data, tmp_path / out, *options)

    command = [sys.executable, str(ROOT / "train.py"), *given("sharded", "trainer.strategy=fsdp", "trainer.devices=2")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=400, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    train.train(_cfg("train", given("plain")))
    for name in ("models/retrieval", "models/sts", "models/sts-ema", "merged/*/model"):
        (found,), (expected,) = (
            list((tmp_path / out).glob(f"{name}/model.safetensors")) for out in ("sharded", "plain")
        )
        torch.testing.assert_close(load_file(found), load_file(expected), rtol=0, atol=1e-6)
