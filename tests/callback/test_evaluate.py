"""Scores on the way: sharing and stopping, and that who only watches changes nothing."""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
import torch

from lightning_embed.callback import WhileTraining
from lightning_embed.errors import ConfigError
from lightning_embed.evaluation import Evaluator, Local, Part, Shared, TextEncoder
from lightning_embed.run import train
from lightning_embed.runtime import distributed, fault_injection
from lightning_embed.types import EvalSet, Score
from tests.callback.toy import fit, logged, toy_training
from tests.evaluation.test_embedding_cache import Noting
from tests.run.test_fit import _weights
from tests.run.test_kills import _run, _same_models
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

# Lightning warns of few workers, of the logging interval and of itself.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


class Given(Evaluator):
    """Scores that a test gives, one measurement after the other; draws and seeds as tasks of mteb do."""

    def __init__(self, *scores: float, split: str = "dev") -> None:
        self.scores = [float(score) for score in scores]
        self.split = split

    def validate(self) -> None:
        """Nothing."""

    def parts(self, eval_sets: Sequence[EvalSet]) -> list[Part]:
        torch.manual_seed(5)
        return [Part(self.split, "sts", "given", "", self._run)]

    def _run(self, encoder: TextEncoder) -> Score:
        torch.manual_seed(5)
        return Score(task="sts", metric="cosine_spearman", score=self.scores.pop(0), in_domain=True)


def trained(model: Path, toy: Path, out: Path, *callbacks: WhileTraining) -> torch.nn.Module:
    module, data = toy_training(model, toy)
    fit(module, data, out, *callbacks)
    for callback in callbacks:
        callback.finish(module.encoder, module.trainer.global_step, out / "choice.json")
    return module.encoder


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_who_only_watches_changes_nothing(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """Bit-equal weights, with dropout; neither the generators nor the mode are left changed."""
    module, data = toy_training(tiny_model, toy)
    watch = WhileTraining(Local(), every_n_steps=1)
    states, measure = [], watch._measure

    def noting(module):
        states.append((torch.get_rng_state(), module.encoder.training))
        found = measure(module)
        states.append((torch.get_rng_state(), module.encoder.training))
        return found

    watch._measure = noting
    fit(module, data, tmp_path / "watched", watch)
    assert len(states) == 8
    for before, after in zip(states[::2], states[1::2], strict=True):
        assert torch.equal(before[0], after[0])
        assert before[1] is after[1] is True
    assert same(module.encoder, trained(tiny_model, toy, tmp_path / "alone"))


def test_logs_what_the_evaluation_finds(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """Every n steps and at the end; dev sets alone, though `Local` has the tests as well."""
    module, data = toy_training(tiny_model, toy)
    fit(module, data, tmp_path, WhileTraining(Local(), every_n_steps=3, metric="dev/sts"))
    found = logged(tmp_path, "while_training/")
    assert set(found) == {3, 4}
    assert set(found[4]) == {
        f"while_training/{name}" for name in ("dev/pairs", "dev/scores", "dev/mean", "dev/sts", "time_share")
    }
    expected = Local()(module.encoder, data.dev_sets)["dev"]
    for name in ("pairs", "scores"):
        assert found[4][f"while_training/dev/{name}"] == pytest.approx(expected[name]["score"], abs=1e-4)
    mean = (expected["pairs"]["score"] + expected["scores"]["score"]) / 2
    assert found[4]["while_training/dev/mean"] == pytest.approx(mean, abs=1e-4)
    assert 0 < found[4]["while_training/time_share"] < 1


def test_the_best_step_is_kept(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """Of four steps the third: the weights that a training of the same schedule has after three steps."""
    snapshots: list[torch.Tensor] = []

    class Steps(WhileTraining):
        def _choose(self, trainer, pl_module, score):
            snapshots.append(torch.cat([p.detach().flatten() for p in pl_module.encoder.parameters()]).clone())
            return super()._choose(trainer, pl_module, score)

    how = {"every_n_steps": 1, "keep_best": True, "min_gain": 20.0}  # what gains little is the best all the same
    encoder = trained(tiny_model, toy, tmp_path, Steps(Given(50, 40, 60, 60), **how))
    assert torch.equal(torch.cat([p.detach().flatten() for p in encoder.parameters()]), snapshots[2])
    assert not torch.equal(snapshots[2], snapshots[3])
    choice = {"metric": "dev/mean", "score": 60.0, "best_step": 3, "exported_step": 3, "last_step": 4}
    assert json.loads((tmp_path / "choice.json").read_text()) == choice


def test_scores_that_are_no_numbers_choose_nothing(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    nan = float("nan")
    trained(tiny_model, toy, tmp_path, WhileTraining(Given(nan, nan, nan, nan), every_n_steps=1, keep_best=True))
    choice = json.loads((tmp_path / "choice.json").read_text())
    assert (choice["score"], choice["exported_step"], choice["last_step"]) == (None, 4, 4)


@pytest.mark.parametrize(
    ("scores", "min_gain", "best", "last"), [((50, 40, 45), 0.0, 1, 3), ((50, 50.4, 50.5), 0.5, 3, 3), ((50, 40, 51, 1), 0.0, 3, 4)]
)  # fmt: skip
def test_patience_ends_a_training(
    scores: tuple[float, ...], min_gain: float, best: int, last: int, tiny_model: Path, toy: Path, tmp_path: Path
) -> None:
    trained(tiny_model, toy, tmp_path, WhileTraining(Given(*scores), every_n_steps=1, patience=2, min_gain=min_gain))
    choice = json.loads((tmp_path / "choice.json").read_text())
    assert (choice["best_step"], choice["exported_step"], choice["last_step"]) == (best, last, last)


def test_a_measurement_that_there_is_no_time_for_is_skipped(
    tiny_model: Path, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step takes a second, a measurement two; half of the time may go into them."""
    clock = [0.0]
    monkeypatch.setattr("lightning_embed.callback.evaluate.time.monotonic", lambda: clock[0])

    class Ticking(WhileTraining):
        def on_train_batch_end(self, *arguments):
            clock[0] += 1
            super().on_train_batch_end(*arguments)

        def _measure(self, pl_module):
            clock[0] += 2
            return super()._measure(pl_module)

    fit(*toy_training(tiny_model, toy), tmp_path, Ticking(Given(*range(9)), every_n_steps=1, time_share=0.5))
    found = logged(tmp_path, "while_training/time_share")
    # Step 1 at second 1: nothing is known of a measurement. Then (2 + 2) / (seconds + 2) <= 0.5 from second 6 on.
    assert {step: next(iter(numbers.values())) for step, numbers in found.items()} == {1: 2 / 3, 4: 4 / 8}


def test_a_text_is_encoded_once() -> None:
    model = Noting()
    shared = Shared(model, torch.device("cpu"))
    assert shared.encode(["bb", "a", "bb"], prompt=None).tolist() == [[0, 2, 0.5], [0, 1, 0.5], [0, 2, 0.5]]
    assert shared.encode(["a", "ccc"], prompt=None)[:, 1].tolist() == [1, 3]
    assert model.asked == ["a", "bb", "ccc"]
    assert shared.encode(["a"], prompt="p: ").tolist() == [[3, 1, 0.5]]
    assert shared.encode([], prompt=None).shape == (0, 3)


def test_ranks_share_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two ranks that take turns: each encodes its part, and both get all."""
    models, parts = [Noting(), Noting()], []

    def encode(rank: int, gather) -> torch.Tensor:
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        monkeypatch.setattr(distributed, "gather", gather)
        monkeypatch.setattr(distributed, "largest", list)  # of refusals: none
        return Shared(models[rank], torch.device("cpu")).encode(["ccc", "a", "bb", "a"], prompt=None)

    for rank in (0, 1):
        with pytest.raises(ValueError, match="zip"):  # what a rank of its own would get
            encode(rank, lambda own, counts: (parts.append((own, counts)), own)[1])
    assert [model.asked for model in models] == [["a", "ccc"], ["bb"]]
    assert [counts for _, counts in parts] == [[2, 1], [2, 1]]
    whole = torch.cat([own for own, _ in parts])
    for rank in (0, 1):
        assert encode(rank, lambda own, counts: whole)[:, 1].tolist() == [3, 1, 2, 1]


@pytest.mark.slow
def test_two_ranks_measure_what_one_does(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """The same scores, the same choice; together they encode every text once."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    for ranks, launcher in ((1, [sys.executable]), (2, launch)):
        command = [
            *launcher,
            "-m",
            "tests.callback.two_ranks_measure",
            str(tiny_model),
            str(toy),
            str(tmp_path / str(ranks)),
        ]
        root = Path(__file__).parents[2]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (logged(tmp_path / ranks, "while_training/dev") for ranks in ("1", "2"))
    assert set(one) == set(two) == {1, 2, 3, 4}
    for step, numbers in one.items():
        assert two[step] == pytest.approx(numbers, abs=1e-4)
    choices = [json.loads((tmp_path / ranks / "choice.json").read_text()) for ranks in ("1", "2")]
    assert choices[0]["best_step"] == choices[1]["best_step"]
    (alone,) = (json.loads(file.read_text()) for file in (tmp_path / "1").glob("texts-*.json"))
    shares = [json.loads(file.read_text()) for file in (tmp_path / "2").glob("texts-*.json")]
    assert len(shares) == 2
    for number, texts in enumerate(alone):
        assert len(set(map(tuple, texts))) == len(texts), "every text once"
        both = [text for share in shares for text in share[number]]
        assert sorted(both) == sorted(texts)
        assert abs(len(shares[0][number]) - len(shares[1][number])) <= 2


CHOOSING = (
    "experts=joint", "experts.ema=0.9", "merge=none", "evaluation=none", "callback=evaluate", "trainer.max_steps=60",
    "callback.while_training.every_n_steps=5", "callback.while_training.keep_best=true", "callback.while_training.patience=4",
    "checkpoint_minutes=0.0001",
)  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tiny_model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    assert _run(_overrides(tiny_model, toy, out, *CHOOSING), out).wait(300) == 0
    return out


@pytest.mark.slow
@pytest.mark.parametrize("point", ["after_step:12", "before_replace:10", "measuring:3", "measuring:5", "before_export"])
def test_killed_at(point: str, tiny_model: Path, toy: Path, undisturbed: Path, tmp_path: Path) -> None:
    """The same command again ends with the choice and the weights of the undisturbed run."""
    overrides = _overrides(tiny_model, toy, tmp_path, *CHOOSING)
    assert _run(overrides, tmp_path, **{fault_injection.VARIABLE: point}).wait(300) == -signal.SIGKILL
    assert _run(overrides, tmp_path).wait(300) == 0
    _same_models(undisturbed, tmp_path)
    choice = "checkpoints/joint/choice.json"
    assert (tmp_path / choice).read_text() == (undisturbed / choice).read_text()
    assert json.loads((tmp_path / choice).read_text())["last_step"] < 60, "it stopped early, or this shows less"


@pytest.mark.slow
def test_a_run_ends_with_its_best_step_and_costs_what_it_trained(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """The best is the expert that a snapshot of that step is; one that stopped after half of its steps cost half."""
    more = ("callback=evaluate", "callback.while_training.every_n_steps=1", "merge=none")
    chosen = (*more, "callback.while_training.patience=1", "callback.while_training.min_gain=100.0", "experts=joint")
    run = partial(_overrides, tiny_model, toy)
    train.train(_cfg("train", run(tmp_path / "early", *chosen, "callback.while_training.keep_best=true")))
    choice = json.loads((tmp_path / "early/checkpoints/joint/choice.json").read_text())
    assert (choice["best_step"], choice["exported_step"], choice["last_step"]) == (1, 1, 2)
    costs = json.loads((tmp_path / "early/results.json").read_text())["costs"]
    assert costs["joint"] == 2 * 8
    train.train(
        _cfg("train", run(tmp_path / "whole", "experts=joint", "experts.snapshots=6", "merge=none", "evaluation=none"))
    )
    first = _weights(tmp_path / "whole/models/joint-snapshot_1")
    assert torch.equal(_weights(tmp_path / "early/models/joint"), first)
    before = (tmp_path / "early/models/joint/model.safetensors").stat().st_mtime_ns
    train.train(_cfg("train", run(tmp_path / "early", *chosen, "callback.while_training.keep_best=true")))
    assert (tmp_path / "early/models/joint/model.safetensors").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "early/results.json").read_text())["costs"] == costs


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every_n_steps": 0}, "at least 1, got 0 and None"),
        ({"patience": 0}, "at least 1, got 20 and 0"),
        ({"time_share": 0.0}, r"must be in \(0, 1\], or null for no limit, got 0.0"),
        ({"min_gain": -1.0}, "must be at least 0 points, got -1.0"),
    ],
)
def test_numbers_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WhileTraining(Local(), **options)


@pytest.mark.parametrize("metric", ["test/sts", "dev/retrieval"])
@pytest.mark.parametrize("chooser", [{"keep_best": True}, {"patience": 3}])
def test_what_is_no_dev_score_chooses_nothing(metric: str, chooser: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=rf"metric={metric}: only dev scores choose.*Known: dev/mean, dev/sts"):
        WhileTraining(Given(1), metric=metric, **chooser).parts([])
    with pytest.raises(ConfigError, match=r"only dev scores choose.*Known: none"):
        WhileTraining(Given(1, split="test"), **chooser).parts([])
    assert len(WhileTraining(Given(1, split="test"), metric=metric).parts([])) == 1, "who only watches may watch a test"
