"""Whole runs on the tiny encoder: the commands of the README, a kill, a plugin."""

import gc
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig
from safetensors.torch import load_file

from lightning_embed import load
from lightning_embed.config import schema, values
from lightning_embed.errors import ConfigError
from lightning_embed.logger import open as open_module
from lightning_embed.logger.open import _searchable, open_loggers
from lightning_embed.report.scores import results_file
from lightning_embed.run import build, merge, train
from lightning_embed.training.module import EmbeddingModule
from tests.toy import write_toy

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning, mteb and Hydra warn of themselves in a whole run


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy(tmp_path_factory.mktemp("toy"))


def _overrides(tiny_model: Path, toy: Path, out: Path, *more: str) -> list[str]:
    return [
        f"encoder.path={tiny_model}", "encoder.max_length=32", f"out={out}", f"data.root={toy}", "trainer.max_steps=6",
        "trainer.accelerator=cpu", "trainer.val_check_interval=3", "trainer.enable_progress_bar=false", "callback=default",
        *(f"data.datasets.{name}.{key}" for name, path in (("facts", "pairs"), ("phrases", "scores"))
          for key in (f"path={toy}/{path}", "batch_size=8")),
        "data.datasets.phrases.score_range=[0,1]", *more,
    ]  # fmt: skip


def _cfg(root: str, overrides: list[str]) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(schema.conf_folder())):
        return compose(root, overrides)


@pytest.fixture(scope="module")
def run(tiny_model: Path, toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One finished run: two experts and a soup."""
    out = tmp_path_factory.mktemp("runs") / "run"
    metric = train.train(_cfg("train", _overrides(tiny_model, toy, out)))
    assert metric is not None
    assert 0 < metric <= 100
    return out


def _merged(out: Path) -> Path:
    (found,) = (out / "merged").iterdir()
    return found


def test_layout(run: Path) -> None:
    assert {path.name for path in (run / "models").iterdir()} == {"base", "retrieval", "sts"}
    assert {path.name for path in _merged(run).iterdir()} == {"model", "merge.json", "geometry.svg"}
    assert (run / "report.html").read_text().startswith("<!")
    assert not list((run / "checkpoints").rglob("*.ckpt")), "a finished expert needs no checkpoint"
    results = json.loads((run / "results.json").read_text())["models"]
    assert list(results) == ["base", "retrieval", "sts", _merged(run).name]
    for splits in results.values():
        assert {split: sorted(tests) for split, tests in splits.items()} == {
            s: ["facts", "phrases"] for s in ("dev", "test")
        }


def test_experts_have_trained_and_the_soup_is_their_mean(run: Path) -> None:
    weights = {name: load_file(run / "models" / name / "model.safetensors") for name in ("base", "retrieval", "sts")}
    soup = load_file(_merged(run) / "model" / "model.safetensors")
    for name, base in weights["base"].items():
        torch.testing.assert_close(soup[name], (weights["retrieval"][name] + weights["sts"][name]) / 2)
        if "pooler" in name:
            assert torch.equal(base, soup[name]), "a parameter without gradient is exported as it was"
    assert any(not torch.equal(weights["base"][n], weights["sts"][n]) for n in soup)


def test_sentence_transformers_opens_the_merged_model(run: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["the red cat eats the dog", "a king", "the small bird sees the river in 42"]
    ours = load(_merged(run) / "model").encode(texts)
    theirs = torch.from_numpy(SentenceTransformer(str(_merged(run) / "model"), device="cpu").encode(texts))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_mteb_on_sentence_transformers_gives_our_figures(run: Path, tiny_model: Path, toy: Path) -> None:
    import mteb
    from sentence_transformers import SentenceTransformer

    from lightning_embed.evaluation.local_tasks import to_task

    path = _merged(run) / "model"
    ours = json.loads((run / "results.json").read_text())["models"][_merged(run).name]
    model = SentenceTransformer(str(path), device="cpu")
    for data in build.datasets(_cfg("train", _overrides(tiny_model, toy, run))).values():
        for eval_set in data.eval_sets:
            found = mteb.evaluate(model, to_task(eval_set), cache=None, co2_tracker=False, show_progress_bar=False)
            theirs = 100 * found.task_results[0].get_score()
            assert ours[eval_set.split][eval_set.name]["score"] == pytest.approx(theirs, abs=1e-2), eval_set.name


def test_metrics_of_every_step(run: Path) -> None:
    import pandas

    metrics = pandas.read_csv(run / "logs" / "retrieval" / "version_0" / "metrics.csv")
    steps = metrics.dropna(subset="train/loss")
    assert len(steps) == 6
    for key in ("train/loss/facts", "train/learning_rate", "train/grad_norm", "throughput/texts_per_second",
                "throughput/tokens_per_second", "throughput/padding_share", "throughput/dataset"):  # fmt: skip
        assert steps[key].notna().all(), key
    assert metrics["dev/loss/facts"].notna().sum() == 2


def test_what_is_measured(run: Path, tmp_path: Path, toy: Path) -> None:
    """The base and the merged model alone; and, on the same folder, the sources after all."""
    given = [
        f"sources=[{run}/models/retrieval,{run}/models/sts]", f"base={run}/models/base", f"out={tmp_path}", "data=sample",
        *(f"data.datasets.{name}.path={toy}/{path}" for name, path in (("facts", "pairs"), ("phrases", "scores"))),
        "data.datasets.phrases.score_range=[0,1]", "evaluation.splits=[dev]", "logger=none",
    ]  # fmt: skip
    merge.merge(_cfg("merge", [*given, "measure_sources=false"]))
    soup = _merged(tmp_path).name
    assert list(results_file.read(tmp_path)["models"]) == ["base", soup]
    merge.merge(_cfg("merge", given))
    assert list(results_file.read(tmp_path)["models"]) == ["base", "retrieval", "sts", soup]


def test_the_same_command_again_trains_nothing(run: Path, tiny_model: Path, toy: Path, capsys) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    train.train(_cfg("train", _overrides(tiny_model, toy, run)))
    assert before == {path: path.stat().st_mtime_ns for path in run.rglob("*.safetensors")}
    assert "retrieval: trained already" in capsys.readouterr().out


def test_merge_command(run: Path, tmp_path: Path) -> None:
    models = run / "models"
    overrides = [
        f"sources=[{models}/retrieval,{models}/sts]",
        f"base={models}/base",
        f"out={tmp_path}",
        "evaluation=none",
    ]
    for strategy in ("slerp", "task_arithmetic"):
        merge.merge(_cfg("merge", [*overrides, f"merge={strategy}"]))
    assert {path.name.split("-")[0] for path in (tmp_path / "merged").iterdir()} == {"slerp", "task_arithmetic"}
    with pytest.raises(ConfigError, match="slerp"):
        merge.merge(_cfg("merge", [f"sources=[{models}/sts]", f"out={tmp_path}", "merge=slerp"]))


def test_a_folder_keeps_one_run(run: Path, tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds another run"):
        train.train(_cfg("train", _overrides(tiny_model, toy, run, "optimizer.lr=1e-3")))
    with pytest.raises(ConfigError, match="nowhere is not a directory"):
        merge.merge(_cfg("merge", ["sources=[nowhere,elsewhere]", f"out={tmp_path}"]))


def test_only_one_expert(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    assert train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path, "experts.only=sts"))) is None
    assert {path.name for path in (tmp_path / "models").iterdir()} == {"base", "sts"}
    assert not (tmp_path / "merged").exists()


def test_inspect_writes_nothing(tiny_model: Path, toy: Path, tmp_path: Path, capsys) -> None:
    train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / "run", "inspect=true")))
    shown = capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    for part in ("[CLS]", "tokens", "retrieval: 6 steps", "0.0%", "minutes on this machine",
                 "of these weights (float32)"):  # fmt: skip
        assert part in shown, part


def test_a_merge_that_cannot_work_is_refused_before_training(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="slerp takes at least 2 sources, got 1"):
        train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / "run", "experts=joint", "merge=slerp")))
    assert not (tmp_path / "run").exists()


def _command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *arguments]


@pytest.mark.slow
@pytest.mark.parametrize("length", ["trainer.max_steps=400", "trainer.max_epochs=33"])
def test_kill_and_resume_bit_for_bit(tiny_model: Path, toy: Path, tmp_path: Path, length: str) -> None:
    """kill -9 in mid-training, the same command again: it goes on, and ends with the undisturbed run's weights."""

    def overrides(out: Path) -> list[str]:
        more = (
            "experts=joint",
            "merge=none",
            "evaluation=none",
            "trainer.max_steps=-1",
            length,
            "checkpoint_minutes=0.0001",
        )
        return _overrides(tiny_model, toy, out, *more)

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(_command(*overrides(tmp_path / "whole")), check=True, env=environment, cwd=tmp_path, timeout=300)
    process = subprocess.Popen(_command(*overrides(tmp_path / "killed")), env=environment, cwd=tmp_path)
    checkpoint = tmp_path / "killed" / "checkpoints" / "joint" / "last.ckpt"
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.01)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert checkpoint.exists()
    step = torch.load(checkpoint, weights_only=False)["global_step"]
    assert 0 < step < 400, "killed in mid-training"
    subprocess.run(_command(*overrides(tmp_path / "killed")), check=True, env=environment, cwd=tmp_path, timeout=300)
    files = [tmp_path / name / "models" / "joint" / "model.safetensors" for name in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.slow
def test_sweep_shows_one_table(run: Path, tmp_path: Path, toy: Path) -> None:
    models = run / "models"
    command = [
        sys.executable, str(ROOT / "merge.py"), "-m", "merge=soup,slerp,task_arithmetic", f"out={tmp_path / 'sweep'}",
        f"sources=[{models}/retrieval,{models}/sts]", f"base={models}/base", "data=sample", "evaluation=local",
        *(f"data.datasets.{name}.path={toy}/{path}" for name, path in (("facts", "pairs"), ("phrases", "scores"))),
        "data.datasets.phrases.score_range=[0,1]", "ensemble=true",
    ]  # fmt: skip
    wide = {**os.environ, "COLUMNS": "120", "LIGHTNING_EMBED_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=wide, timeout=300)
    table = done.stdout[done.stdout.rindex("merge and report: ") :]
    assert "best on dev first" in " ".join(table.split())
    for model in ("base", "retrieval", "sts", "soup", "slerp", "task_arithmetic"):
        assert f" {model} " in table
    kept = list((tmp_path / "cache" / "scores").iterdir())
    assert len(kept) == 4 * (3 + 1 + 2 + 1), "on four sets merges, base, sources and ensemble: each once in three jobs"
    assert {file.name for file in tmp_path.glob("runs/sweep-*/*")} == {
        "report.html",
        "results.json",
        "multirun.yaml",
        "jobs",
        "known",
    }
    assert " ensemble of 2 encoders  " in " ".join(table.split("\n"))
    assert "encoders of" not in " ".join(table.split())


@pytest.mark.slow
def test_strangers_strategies(tmp_path: Path) -> None:
    """A file in plugins/, and a pip package with an entry point: in --help, typed, and refused when mistyped."""
    source = '''"""A stranger's strategy."""
from dataclasses import dataclass
from lightning_embed.merge import MergeStrategy
from lightning_embed.registry import register

@register("merge", "{word}")
@dataclass(frozen=True)
class First(MergeStrategy):
    """Takes the first source, and some of it: {word}."""
    amount: float = 1.0

    def merge(self, name, tensors, base, plan, generator):
        return tensors[0] * self.amount
'''
    package = tmp_path / "package"
    package.mkdir()
    (package / "stranger.py").write_text(source.format(word="stranger"))
    (package / "pyproject.toml").write_text(
        '[project]\nname = "stranger"\nversion = "1"\n[project.entry-points."lightning_embed.plugins"]\n'
        'stranger = "stranger"\n[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[tool.setuptools]\npy-modules = ["stranger"]\n'
    )
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "--target",
        str(tmp_path / "site"),
        str(package),
    ]
    subprocess.run(pip, check=True, capture_output=True, timeout=120)
    dropped = ROOT / "plugins" / "zz_dropped_by_a_test.py"
    dropped.write_text(source.format(word="zz_dropped_by_a_test"))
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def shown(*arguments: str) -> str:
        done = subprocess.run(
            _command(*arguments), capture_output=True, text=True, env=environment, timeout=120, check=False
        )
        return done.stdout + done.stderr

    try:
        page = shown("--help")
        for word in ("stranger", "zz_dropped_by_a_test"):
            assert f"Takes the first source, and some of it: {word}." in page
            assert f"merge={word}" not in shown(f"merge={word}", "--cfg", "job", "-p", "merge")
            assert "amount: 0.5" in shown(f"merge={word}", "merge.amount=0.5", "--cfg", "job", "-p", "merge")
            assert "merge.amount=much: Value 'much'" in shown(f"merge={word}", "merge.amount=much")
            assert "merge.amuont: no such option. Did you mean 'amount'?" in shown(f"merge={word}", "merge.amuont=1")
    finally:
        dropped.unlink()


def test_what_a_logger_has_from_the_environment_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "secret")
    cfg = _cfg("train", ["+logger.mine={_target_:a.B,api_key:'${oc.env:KEY}',folder:'${out}'}", "out=x"])
    assert cfg.logger.mine.api_key == "secret"
    assert values.shown_config(cfg)["logger"]["mine"] == {
        "_target_": "a.B",
        "api_key": "${oc.env:KEY}",
        "folder": "x",
    }
    assert "secret" not in str(_searchable(cfg))


@pytest.mark.parametrize("failed", [True, False])
def test_a_logger_is_told_how_a_part_ended(failed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As W&B's run is: a crashed training must not stand there as finished."""
    told: list[object] = []

    class Logger:
        experiment = SimpleNamespace(finish=lambda exit_code: told.append(exit_code))
        log_hyperparams = staticmethod(lambda _: None)
        finalize = staticmethod(told.append)

    monkeypatch.setattr(open_module, "instantiated", lambda *_: Logger())
    with suppress(ValueError), open_loggers(_cfg("train", []), "sts", "train"):
        if failed:
            raise ValueError
    assert told == (["failed", 1] if failed else ["success", 0])


@pytest.mark.slow
def test_datasets_that_are_not_trained_on_are_measured_out_of_domain(
    tiny_model: Path, toy: Path, tmp_path: Path
) -> None:
    """Nothing looks at their rows: not a training, not a probe; their tests count as out of domain."""
    given = _overrides(
        tiny_model, toy, tmp_path / "run", "experts=bagging", "experts.bag_shares=[0.5,1.0]", "experts.datasets=[facts]"
    )
    train.train(_cfg("train", [*given, "merge=self_positioning", "merge.steps=2", "trainer.max_steps=2"]))
    content = json.loads((tmp_path / "run" / "results.json").read_text())
    (merged,) = (name for name in content["models"] if name.startswith("self_positioning"))
    assert {name: s["in_domain"] for name, s in content["models"][merged]["test"].items()} == {
        "facts": True,
        "phrases": False,
    }
    assert content["costs"]["base"] == 0
    assert content["costs"]["bag_1"] == 16, "two steps of eight rows"
    assert content["costs"][merged] > 32, "both trainings, and what the search looked at"
    (record,) = (json.loads(file.read_text()) for file in (tmp_path / "run").glob("merged/*/merge.json"))
    assert record["probe_rows"] == pytest.approx(content["costs"][merged] - 32)
    with pytest.raises(ConfigError, match=r"experts.datasets: no dataset 'fact' with train rows. Did you mean 'facts'"):
        train.train(_cfg("train", [*given, "experts.datasets=[fact]"]))
    shares = ["merge=self_positioning", "+probe.task_shares={sts: 1.0}", f"out={tmp_path / 'other'}"]
    with pytest.raises(ConfigError, match=r"probe.task_shares.sts: no dataset trains sts"):
        train.train(_cfg("train", [*given, *shares]))
    assert not (tmp_path / "other" / "models").exists(), "told before the first training"


def test_a_trained_expert_leaves_the_memory(tiny_model: Path, toy: Path, tmp_path: Path) -> None:
    """A sweep trains hundreds in one process, and Python looks for cycles of a few large objects hardly ever."""
    gc.collect()
    before = {id(alive) for alive in gc.get_objects() if isinstance(alive, EmbeddingModule)}  # of other tests
    gc.disable()
    try:
        given = ["trainer.max_steps=2", "merge=none", "evaluation=none", "logger=none"]
        train.train(_cfg("train", _overrides(tiny_model, toy, tmp_path / "run", *given)))
        alive = [each for each in gc.get_objects() if isinstance(each, EmbeddingModule)]
        assert not [each for each in alive if id(each) not in before]
    finally:
        gc.enable()
