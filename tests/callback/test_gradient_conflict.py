"""Gradient conflict: equals loops; changes nothing; the numbers stand in the log."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lightning_embed import EmbeddingModule
from lightning_embed.callback import EmbeddingGeometry, GradientConflict
from lightning_embed.callback.gradient_conflict import conflict, layer_group
from lightning_embed.encoder.options import Dtype
from lightning_embed.errors import ConfigError
from lightning_embed.types import LossOutput
from tests.callback.toy import fit, logged, toy_training
from tests.reference.diagnostics import cosine_and_sign_share
from tests.toy import write_toy

# Lightning warns of few workers, of the logging interval and of itself.
pytestmark = pytest.mark.filterwarnings("ignore")

GROUPS = {"all", "embeddings", "layer_0", "layer_1"}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def run(tiny_model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[EmbeddingModule, Path]:
    """A finished training that was watched, and its log."""
    out = tmp_path_factory.mktemp("logs")
    module, data = toy_training(tiny_model, toy)
    conflicts = GradientConflict(every_n_steps=2), GradientConflict(every_n_steps=3, by="dataset", num_batches=2)
    fit(module, data, out, *conflicts, EmbeddingGeometry(every_n_steps=1, num_texts=4))
    return module, out


def test_equals_gradients_compared_by_hand(run: tuple[EmbeddingModule, Path], tiny_model: Path, toy: Path) -> None:
    """Of the first batch that training sees of each task, by .backward() without dropout, in loops."""
    module, data = toy_training(tiny_model, toy)
    module.encoder.eval()
    first_batches = {batch.task: batch for (batch,) in reversed(list(data.train_dataloader()))}
    gradients = []
    for task in ("retrieval", "sts"):
        module.encoder.zero_grad()
        module.loss(first_batches[task]).value.backward()
        parameters = {n: p.grad.double() for n, p in module.encoder.backbone.named_parameters() if p.grad is not None}
        gradients.append({name: gradient.flatten().tolist() for name, gradient in parameters.items()})
    expected = {}
    for group in GROUPS:
        first, second = (
            [x for name, values in g.items() if group in ("all", layer_group(name)) for x in values] for g in gradients
        )
        cosine, sign_share = cosine_and_sign_share(first, second)
        expected[f"conflict/cosine/retrieval-sts/{group}"] = cosine
        expected[f"conflict/sign_share/retrieval-sts/{group}"] = sign_share
    found = {key: x for key, x in logged(run[1], "conflict/")[0].items() if "/retrieval-sts/" in key}
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scale", [1.0, 2.5, -3.0])
def test_equal_and_opposite_tasks(scale: float) -> None:
    torch.manual_seed(0)
    gradient = {"layer.0.weight": torch.randn(7, 3), "embeddings.weight": torch.randn(5), "norm.bias": torch.zeros(2)}
    measured = conflict(gradient, {name: scale * part for name, part in gradient.items()})
    cosine, opposite = (1, 0) if scale > 0 else (-1, 1)
    assert measured == {
        "layer_0": pytest.approx((cosine, opposite)),
        "embeddings": pytest.approx((cosine, opposite)),
        "other": (0, 0),
        "all": pytest.approx((cosine, opposite * 26 / 28)),
    }


def test_small_gradients_conflict_too() -> None:
    tiny = torch.full((4,), 1e-30)
    assert conflict({"norm": tiny}, {"norm": -tiny})["all"][1] == 1


@pytest.mark.parametrize(
    ("parameter", "group"),
    [
        ("encoder.layer.11.attention.self.query.weight", "layer_11"),
        ("base_model.model.layers.3.mlp.lora_A.default.weight", "layer_3"),
        ("encoder.block.2.layer.0.SelfAttention.q.weight", "layer_2"),
        ("h.5.attn.c_attn.weight", "layer_5"),
        ("embeddings.word_embeddings.weight", "embeddings"),
        ("embed_tokens.weight", "embeddings"),
        ("wte.weight", "embeddings"),
        ("final_norm.weight", "other"),
    ],
)
def test_layer_groups(parameter: str, group: str) -> None:
    assert layer_group(parameter) == group


def test_training_is_not_changed(
    run: tuple[EmbeddingModule, Path], tiny_model: Path, toy: Path, tmp_path: Path
) -> None:
    """Bit-equal weights, with dropout."""
    module, data = toy_training(tiny_model, toy)
    start = {name: weight.clone() for name, weight in module.encoder.state_dict().items()}
    fit(module, data, tmp_path)
    watched = run[0].encoder.state_dict()
    assert any(not torch.equal(weight, start[name]) for name, weight in watched.items()), "it has trained"
    for name, weight in module.encoder.state_dict().items():
        assert torch.equal(weight, watched[name]), name


@pytest.mark.parametrize(("pair", "steps"), [("retrieval-sts", {0, 2}), ("pairs-scores", {0, 3})])
def test_logged_at_its_steps_only(run: tuple[EmbeddingModule, Path], pair: str, steps: set[int]) -> None:
    """Whatever log_every_n_steps says."""
    for measure in ("cosine", "sign_share"):
        found = logged(run[1], f"conflict/{measure}/{pair}/")
        names = {f"conflict/{measure}/{pair}/{group}" for group in GROUPS}
        assert {step: set(numbers) for step, numbers in found.items()} == dict.fromkeys(steps, names)


def test_one_task_has_no_conflict(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    fit(*toy_training(tiny_model, toy, "scores"), tmp_path, GradientConflict(every_n_steps=1))
    assert logged(tmp_path, "conflict/") == {}
    assert logged(tmp_path, "train/")


def test_measured_without_dropout_in_the_arithmetic_of_training(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """dtype=auto computes otherwise when the encoder does not train."""
    module, data = toy_training(tiny_model, toy, dtype=Dtype.bfloat16)
    modes, run = [], module.run_backward

    def spy(*arguments: object) -> LossOutput:
        modes.append((module.encoder.training, module.encoder.backbone.training))
        return run(*arguments)

    module.run_backward = spy
    fit(module, data, tmp_path, GradientConflict(every_n_steps=4))
    assert modes[:2] == [(True, False), (True, False)]


@pytest.mark.slow
def test_two_ranks_measure_the_global_batch(
    run: tuple[EmbeddingModule, Path], tiny_model: Path, toy: Path, tmp_path: Path
) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    command = [*launch, "-m", "tests.callback.two_ranks", str(tiny_model), str(toy), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2], timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for pair in ("retrieval-sts", "pairs-scores"):
        one, two = (logged(out, f"conflict/cosine/{pair}")[0] for out in (run[1], tmp_path))
        assert two == pytest.approx(one, abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "layer"}, "by must be task or dataset, got 'layer'"),
        ({"every_n_steps": 0}, "must be at least 1, got 0 and 1"),
        ({"num_batches": 0}, "must be at least 1, got 20 and 0"),
    ],
)
def test_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GradientConflict(**options)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_gradients_that_are_not_finite_have_no_cosine(bad: float) -> None:
    """0 would say that they are unrelated."""
    one = {"layer.0.weight": torch.ones(3)}
    cosine, _ = conflict(one, {"layer.0.weight": torch.tensor([1.0, bad, 1.0])})["all"]
    assert math.isnan(cosine)
    assert conflict(one, {"layer.0.weight": torch.zeros(3)})["all"][0] == 0.0
