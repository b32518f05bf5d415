"""Jobs that are done are known by their overrides, while everything that their hash was computed from is as it was."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf

from lightning_embed.config import schema
from lightning_embed.config.compose import check_command
from lightning_embed.config.content import noticed
from lightning_embed.config.identity import job_hash
from lightning_embed.config.values import plain
from lightning_embed.sweep import known_jobs, records
from lightning_embed.sweep.records import Job
from lightning_embed.types import Choice

ROWS = '{"text1": "a", "text2": "b", "score": 0}\n{"text1": "c", "text2": "d", "score": 1}\n'
DATA = "defaults: [schema/data@_here_]\ndatasets:\n  d: {task: sts, path: rows}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a dataset, a base model and configs of one's own."""
    monkeypatch.chdir(tmp_path)
    for file, text in {
        "rows/train.jsonl": ROWS, "base/config.json": "{}", "confs/data/mine.yaml": DATA,
    }.items():  # fmt: skip
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(text)
    return tmp_path


def _job(*overrides: str) -> DictConfig:
    schema.register()
    known_jobs._composition.cache_clear()  # as in a new process
    GlobalHydra.instance().clear()
    with initialize_config_dir(version_base="1.3", config_dir=str(schema.conf_folder())):
        places = [f"hydra.searchpath=['file://{Path.cwd()}/confs']", "hydra.sweep.dir=sweep", "data=mine"]
        cfg = compose("train", [*places, "encoder.path=base", *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    return cfg


def _end(overrides: list[str]) -> str:
    """Let a job end, and keep what its hash was computed from. Returns the hash."""
    cfg = _job(*overrides)
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    with noticed() as reads:
        name = job_hash("train", own)
    known_jobs.remember("train", own, Path("sweep"), name, reads)
    Path("out").mkdir(exist_ok=True)
    records.write(Path("sweep/jobs") / f"{name}.json", Job([Choice("seed", "1", "seed=1")], "out", 1.0, 1.0))
    return name


def _is_known(overrides: list[str]) -> bool:
    config = _job(*overrides).hydra
    given = tuple(map(str, plain(config.overrides.task)))
    return given in known_jobs.done("train", config, [given])


def _edit(file: str, text: str) -> Callable[[], object]:
    return lambda: Path(file).write_text(text)


CHANGES = {
    "the same": (lambda: None, True),
    "a row": (_edit("rows/train.jsonl", ROWS + ROWS), False),
    "a file beside it": (_edit("rows/dev.jsonl", ROWS), False),
    "the base model": (_edit("base/config.json", '{"a": 1}'), False),
    "a config": (_edit("confs/data/mine.yaml", DATA.replace("path: rows", "path: rows, batch_size: 8")), False),
    "a new config": (_edit("confs/data/other.yaml", DATA), False),
    "the result": (lambda: Path("out").rename("moved"), False),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_job_is_known_while_nothing_has_changed(change: str, here: Path) -> None:
    _end(["seed=1"])
    assert not _is_known(["seed=2"])
    edit, expected = CHANGES[change]
    edit()
    assert _is_known(["seed=1"]) is expected


def test_a_changed_callback_of_ones_own(here: Path) -> None:
    (here / "mine.py").write_text("class Hello: pass\n")
    given = ["seed=1", "+callback.hello._target_=mine.Hello"]
    _end(given)
    assert _is_known(given)
    (here / "mine.py").write_text("class Hello: a = 1\n")
    assert not _is_known(given)


def test_a_variable_of_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["seed=1", "name=${oc.env:MY_NAME,mine}"]
    _end(given)
    assert _is_known(given)
    monkeypatch.setenv("MY_NAME", "other")
    assert not _is_known(given)


def test_a_resolver_that_nobody_knows(here: Path) -> None:
    """Its value may be another one tomorrow."""
    given = ["seed=1", "name=${oc.decode:a}"]
    _end(given)
    assert not _is_known(given)


def test_a_job_is_composed_only_if_it_is_left(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 400 jobs that are done, none; of one that is not, one."""
    composed = []
    load = ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", lambda *a, **k: composed.append(1) or load(*a, **k))
    command = [f"seed={','.join(map(str, range(100)))}", "merge=soup,slerp,ties,karcher", "encoder.path=base"]
    check_command("train", command, multirun=True, remaining=lambda *_: [])
    assert len(composed) == 1, "that of Hydra's own options"
    composed.clear()
    check_command("train", command, multirun=True, remaining=lambda *_: [["seed=7", "merge=ties", "encoder.path=base"]])
    assert len(composed) == 2


def test_the_sweeper_passes_over_them(monkeypatch: pytest.MonkeyPatch) -> None:
    (sweeper,) = (each for each in Plugins.instance().discover(Sweeper) if each.__name__ == "BasicSweeper")
    monkeypatch.setattr(sweeper, "split_arguments", sweeper.split_arguments)  # is put back after the test
    overrides = OverridesParser.create().parse_overrides(["seed=1,2,3", "merge=soup,ties", "ensemble=true"])
    jobs = known_jobs.split(overrides)
    assert len(jobs) == 6
    assert jobs == BasicSweeper.split_arguments(overrides, None)[0]
    known_jobs.leave_out({tuple(job) for job in jobs[:3]})
    assert sweeper.split_arguments(overrides, None) == [jobs[3:]]
    assert sweeper.split_arguments(overrides, 2) == [jobs[3:5], jobs[5:]]
    known_jobs.leave_out({tuple(job) for job in jobs})
    assert sweeper.split_arguments(overrides, None) == []
