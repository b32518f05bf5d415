"""`experts.jobs=launcher`: which jobs are started, again or not at all, and what is said; and one whole command."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from lightning_embed.config import run_yaml, schema
from lightning_embed.config.compose import check_command
from lightning_embed.errors import ConfigError, TrainingError
from lightning_embed.experts import Expert
from lightning_embed.run import expert_jobs, train
from lightning_embed.runtime import fault_injection
from lightning_embed.sweep import expert_jobs as launching
from tests.toy import write_toy

ROOT = Path(__file__).parent.parent.parent


def _waves(*starts: tuple[str, str]) -> list[list[str]]:
    experts = [Expert(name, {}, start=start) for name, start in starts]
    return [[expert.name for expert in wave] for wave in expert_jobs.waves(experts)]


def test_experts_that_start_from_the_base_train_together() -> None:
    assert _waves(("a", "base"), ("b", "base")) == [["a", "b"]]


def test_an_expert_comes_after_the_one_it_starts_from() -> None:
    assert _waves(("a", "base"), ("b", "a"), ("c", "b"), ("d", "base")) == [["a", "d"], ["b"], ["c"]]
    assert _waves(("b", "a"), ("c", "a")) == [["b", "c"]], "a is trained already"
    assert _waves() == []


Attempt = Callable[[str, Path], int | None]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, list[Attempt]]], list[list[str]]]:
    """Replaces the launcher by one with given ends of the jobs of each expert; returns what is started."""

    def replace(ends: Mapping[str, list[Attempt]]) -> list[list[str]]:
        started: list[list[str]] = []

        def launch(experts: Sequence[str], out: Path) -> dict[str, int]:
            started.append(list(experts))
            found = {name: ends[name].pop(0)(name, out) for name in experts}
            return {name: status for name, status in found.items() if status is not None}

        monkeypatch.setattr(launching, "launch", launch)
        monkeypatch.setattr(launching, "launcher", lambda: "tried")
        return started

    return replace


def _trained(name: str, out: Path) -> int:
    (out / "models" / name).mkdir(parents=True)
    return 0


def _ending(status: int | None, said: str = "") -> Attempt:
    def end(name: str, out: Path) -> int | None:
        if said:
            (log := launching.log_file(out, name)).parent.mkdir(exist_ok=True)
            log.write_text(f"a table\n{said}\n\n")
        return status

    return end


def test_only_what_failed_is_started_again(launched, tmp_path: Path, capsys) -> None:
    started = launched({"a": [_trained], "b": [_ending(-9, "step 3"), _trained], "c": [_ending(None), _trained]})
    expert_jobs._train(["a", "b", "c"], tmp_path, retries=1)
    assert started == [["a", "b", "c"], ["b", "c"]]
    said = capsys.readouterr().out
    assert "b: its job was ended by signal 9: step 3\n" in said
    assert "c: its job ended without a status: its job printed nothing\n" in said
    assert "starting again b, c" in said


def test_experts_that_fail_are_named_with_their_logs(launched, tmp_path: Path, capsys) -> None:
    started = launched({"a": [_trained], "b": [_ending(1, "ValueError: x")] * 3})
    with pytest.raises(TrainingError) as refused:
        expert_jobs._train(["a", "b"], tmp_path, retries=2)
    assert started == [["a", "b"], ["b"], ["b"]]
    log = tmp_path / "jobs" / "b.log"
    assert str(refused.value) == f"1 of 2 experts failed: b. Read {log}; the same command trains them."
    assert capsys.readouterr().out.count("b: its job ended with the exit status 1: ValueError: x\n") == 3


def test_an_error_of_the_user_is_not_tried_again(launched, tmp_path: Path) -> None:
    started = launched({"a": [_ending(2, "TrainingError: it diverged")], "b": [_ending(1), _trained]})
    with pytest.raises(TrainingError, match="1 of 2 experts failed: a"):
        expert_jobs._train(["a", "b"], tmp_path, retries=3)
    assert started == [["a", "b"], ["b"]]


def test_an_error_of_the_launcher(launched, tmp_path: Path) -> None:
    def broken(_: str, __: Path) -> int:
        raise RuntimeError("Could not detect srun.\nMore")

    launched({"a": [broken, broken]})
    with pytest.raises(TrainingError, match=r"trains them. The launcher: RuntimeError: Could not detect srun.$"):
        expert_jobs._train(["a"], tmp_path, retries=1)


def _overrides(*more: str) -> list[str]:
    return ["experts=bagging", "experts.bag_shares=[0.5,0.5]", "experts.jobs=launcher", *more]


def test_a_sweep_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"experts.jobs=launcher with -m: a sweep starts jobs itself."):
        check_command("train", _overrides("seed=1,2"), multirun=True)
    check_command("train", _overrides())


@pytest.mark.parametrize(("option", "said"), [("experts.retries=-1", "at least 0"), ("experts.jobs=slurm", "jobs")])
def test_refused_options(option: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_command("train", ["experts=bagging", option])


def _composed(*overrides: str) -> DictConfig:
    return compose("train", list(overrides), return_hydra_config=True)


@pytest.fixture
def _hydra():
    """Hydra as it is inside a command."""
    GlobalHydra.instance().clear()
    before = HydraConfig.instance().cfg
    with initialize_config_dir(version_base="1.3", config_dir=str(schema.conf_folder())):
        yield
    HydraConfig.instance().cfg = before


@pytest.mark.usefixtures("_hydra")
def test_jobs_of_a_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra's own launcher: each job is the command of one expert, with a log and an exit status, in our folder."""
    overrides = _overrides("hydra/launcher=basic", "push_to_hub=me/model", f"out={tmp_path}")
    HydraConfig.instance().set_config(_composed(*overrides))
    assert launching.launcher() == "basic"
    script = "import sys; print('job:', *sys.argv[1:]); sys.exit(3 if 'bag_1' in sys.argv[-2] else 0)"
    real = launching.command_line
    monkeypatch.setattr(
        launching, "command_line", lambda command: [sys.executable, "-S", "-c", script, *real(command)[3:]]
    )
    monkeypatch.setattr(launching.signals, "install", lambda: None)
    assert launching.launch(["bag_0", "bag_1"], tmp_path) == {"bag_0": 0, "bag_1": 3}
    said = launching.log_file(tmp_path, "bag_1").read_text().split()
    assert said[:2] == ["job:", "--config-name=train"]
    assert said[-4:] == ["experts.jobs=here", "push_to_hub=null", "experts.only='bag_1'", f"out='{tmp_path}'"]
    assert not [word for word in said if word.startswith("hydra")], "a job starts no jobs"


def test_python_has_no_launcher(tiny_model: Path, tmp_path: Path) -> None:
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(schema.conf_folder())):
        cfg = compose("train", _overrides(f"encoder.path={tiny_model}", f"out={tmp_path / 'out'}"))
    with pytest.raises(ConfigError, match=r"experts.jobs=launcher needs a command line"):
        train.train(cfg)
    assert not (tmp_path / "out").exists()


def _small(model: Path, toy: Path) -> list[str]:
    return [
        f"encoder.path={model}", "encoder.max_length=32", f"data.root={toy}", "evaluation.splits=[dev]",
        *(f"data.datasets.{name}.{key}" for name, path in (("facts", "pairs"), ("phrases", "scores"))
          for key in (f"path={toy}/{path}", "batch_size=8")),
        "data.datasets.phrases.score_range=[0,1]", "trainer.max_steps=6", "trainer.accelerator=cpu",
        "trainer.enable_progress_bar=false", "checkpoint_minutes=0", "experts=bagging", "experts.bag_shares=[0.5,0.5]",
        "merge=multislerp",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("_hydra")
def test_inspect_shows_the_jobs(tiny_model: Path, tmp_path: Path, capsys) -> None:
    given = [
        *_small(tiny_model, write_toy(tmp_path)),
        "experts.jobs=launcher",
        f"out={tmp_path / 'out'}",
        "inspect=true",
    ]
    HydraConfig.instance().set_config(_composed(*given, "hydra/launcher=joblib"))
    train.train(compose("train", given))
    assert "jobs of hydra/launcher=joblib, wave 1: bag_0, bag_1" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def _run(folder: Path, *arguments: str, status: int = 0, **environment: str) -> str:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *arguments], cwd=folder, text=True, check=False, timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", **environment},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == status, done.stdout[-5000:]
    return done.stdout


@pytest.mark.slow
def test_experts_as_jobs_of_one_command(tiny_model: Path, tmp_path: Path) -> None:
    """Both jobs are killed in their fourth step, and the retries go on: the weights of one process, bit for bit."""
    toy = write_toy(tmp_path)
    given = [*_small(tiny_model, toy), "out=out"]
    _run(tmp_path / "alone", *given)
    jobs = [*given, "experts.jobs=launcher", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    said = _run(tmp_path / "jobs", *jobs, **{fault_injection.VARIABLE: "after_step:4"})
    assert "starting again bag_" in said
    for bag in ("bag_0", "bag_1"):
        assert f"{bag}: its job was ended by signal 9" in said
        assert f"{bag}: trained already" in said
    for model in ("models/bag_0", "models/bag_1", "merged/*/model"):
        (found,), (expected,) = ((tmp_path / f / "out").glob(f"{model}/model.safetensors") for f in ("jobs", "alone"))
        assert found.read_bytes() == expected.read_bytes()
    choices = {choice.key: choice.value for choice in run_yaml.recorded_choices(tmp_path / "jobs" / "out")}
    assert choices["experts.jobs"] == "launcher", "run.yaml is that of the command, not of a job"
    card = (tmp_path / "jobs" / "out" / "models" / "bag_0" / "README.md").read_text()
    assert "experts.only" not in card
    assert "experts.jobs" not in card
    again = _run(tmp_path / "jobs", *jobs)
    assert "starting" not in again, "nothing is trained twice"
