"""Config: all of conf/ composes, schemas follow signatures, and every mistake is answered in one sentence."""

import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from itertools import zip_longest
from pathlib import Path

import cloudpickle
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import get_class, get_method
from omegaconf import DictConfig, OmegaConf

from lightning_embed import registry
from lightning_embed.cli import entry, launch
from lightning_embed.config import plugins, schema
from lightning_embed.config.compose import check_command
from lightning_embed.config.identity import TRAINED_BY, run_hash
from lightning_embed.config.plugins import _import_entry_points, _import_plugins
from lightning_embed.config.values import plain
from lightning_embed.data.options import DatasetOptions
from lightning_embed.errors import ConfigError, PluginError

GROUPS = sorted(
    path.name
    for path in schema.conf_folder().iterdir()
    if path.is_dir() and not path.name.startswith("_") and path.name != "hydra"
)
ALONE = ("data", "evaluation", "experiment")  # they decide which words of other groups fit


def _rows(groups: Iterable[str]) -> list[list[str]]:
    """Every word of every group once, one word of each group a row: a composition takes 0.3 s."""
    keys = {group: "loss@retrieval_loss" if group == "loss" else group for group in groups}
    columns = [[f"{key}={word}" for word in schema.words(group)] for group, key in keys.items()]
    return [[choice for choice in row if choice] for row in zip_longest(*columns)]


COMMANDS = [
    *(("train", row) for row in _rows(group for group in GROUPS if group not in ALONE)),
    *(("train", row) for group in ALONE for row in _rows([group])),
    *(("merge", row) for row in _rows(["merge", "logger"])),
    *(("merge", row) for group in ("data", "evaluation") for row in _rows([group])),
]


def _compose(root: str, *overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    given = ("data.root=somewhere",) if root == "train" else ("data.root=somewhere", "sources=[a,b]")
    with initialize_config_dir(version_base="1.3", config_dir=str(schema.conf_folder())):
        return compose(root, [*given, *overrides], return_hydra_config=True)


_HUNDREDS = "instructor"  # of datasets: seconds to compose


@pytest.mark.parametrize(
    ("root", "choices"),
    [
        pytest.param(*command, marks=[pytest.mark.slow] * any(_HUNDREDS in word for word in command[1]))
        for command in COMMANDS
    ],
    ids=lambda part: part if isinstance(part, str) else ",".join(part),
)
def test_every_choice_composes_and_is_clean(root: str, choices: list[str]) -> None:
    given = ["data.root=somewhere", *choices] + (["sources=[a,b]"] if root == "merge" else [])
    if "evaluation=mteb" in choices:
        given.append("evaluation.tasks=[STS12]")
    check_command(root, given)


@pytest.mark.parametrize(
    "path", [p for p in schema.conf_folder().rglob("*.yaml") if "_target_:" in p.read_text()], ids=lambda p: p.stem
)
def test_every_target_exists(path: Path) -> None:
    for target in re.findall(r"_target_: *(\S+)", path.read_text()):
        try:
            get_class(target)
        except ValueError:
            get_method(target)


def test_every_yaml_begins_with_a_comment() -> None:
    for path in schema.conf_folder().rglob("*.yaml"):
        assert path.read_text().startswith("# "), path


def test_schemas_have_the_fields_of_the_classes() -> None:
    for room in registry.ROOMS:
        for word in registry.entries(room):
            options = OmegaConf.structured(schema.twin(word.cls, word.name))
            assert options.name == word.name
            built = registry.build(room, plain(options))
            assert built == word.cls(), f"{room}={word.name}: defaults of the schema build the default object"


MISTAKES = [
    ("merge.wieght=1", r"^merge\.wieght: no such option\. Did you mean 'weights' or 'weighting'\?"),
    ("merge=sop", r"^merge=sop: no such choice\. Did you mean 'soup'\?"),
    ("loss@sts_loss=cosnet", r"^loss=cosnet: no such choice\. Did you mean 'cosent' or 'cosine_mse'\?"),
    ("samplr=round_robin", r"^samplr: no such option\. Did you mean 'sampler'\?"),
    (
        "sampler.accumulate=many",
        r"^sampler\.accumulate=many: Value 'many' of type 'str' could not be converted to Integer",
    ),
    ("merge.weighting=sze", r"^merge\.weighting=sze: Invalid value 'sze', expected one of \[equal, size, given\]"),
    ("trainer.max_stepz=3", r"^trainer\.max_stepz: no such option\. Did you mean 'max_steps'"),
    ("trainer.max_steps=few", r"^trainer\.max_steps must be a number like 60, got 'few'"),
    ("optimizer.learning_rate=1", r"^optimizer\.learning_rate: no such option\. .*Known: .*lr"),
    ("data.datasets.facts.tsk=sts", r"^data\.datasets\.facts\.tsk: no such option\. Did you mean 'task'\?"),
    (
        "data.datasets.facts.task=stss",
        r"^data\.datasets\.facts\.task=stss: Invalid value 'stss', expected one of \[retrieval, sts",
    ),
    (
        "data.datasets.new.task=sts",
        r"^data\.datasets\.new: no such option\. .*A dataset is added in a YAML file of the group data\.",
    ),
    (
        "data.datasets.facts.columns={query: question}",
        r"^data\.datasets\.facts\.columns\.query: .*To add one: \+data\.datasets\.facts\.columns=\{query: question\}$",
    ),
    (
        "encoder.prompts.query=x",
        r"^encoder\.prompts\.query: no such option\. .*To add one: \+encoder\.prompts\.query=x$",
    ),
    ("optimized_metric=test/mean", r"^optimized_metric=test/mean: test scores may not choose"),
    ("out_dtype=float8", r"^out_dtype=float8: Invalid value 'float8', expected one of \[float32"),
    ("merge=[", r"^Cannot read the command line"),
    ("merge=null", r"^A group cannot be null: use the word none"),
    ("merge.weighting=given", r"^.*given.* weights"),
    ("retrieval_loss.temperature=0", r"^infonce: temperature must be positive, got 0"),
    ("data.datasets.facts.batch_size=1", r"^batch_size must be at least 2"),
    ("trainer.max_steps=-1", r"^trainer\.max_steps and trainer\.max_epochs are both -1"),
    ("doctor.grid=1", r"^doctor\.grid: expected 0 or at least 2, got 1"),
    ("doctor.batches=0", r"^doctor\.batches: expected at least 1, got 0"),
    ("doctor.plane=[a,a]", r"^doctor\.plane: expected the names of two sources"),
]


@pytest.mark.parametrize(("override", "message"), MISTAKES)
def test_a_mistake_is_one_sentence(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        check_command("train", [override])
    assert "\n" not in str(caught.value)


def test_missing_keys_come_together() -> None:
    with pytest.raises(ConfigError, match=r"^data\.root is missing: give it as data\.root=\.\.\.$"):
        check_command("train", ["data=ir_sts"])
    with pytest.raises(ConfigError, match=r"sources is missing"):
        check_command("merge", [])


ROOTS = [
    ("path: ${data.root}/a.jsonl", True), ("path: a.jsonl\n    train: ['${data.root}/b.jsonl']", True),
    ("path: ${...root}/a.jsonl", True), ("path: a.jsonl", False), ("path: [a.jsonl, 'b-*.csv']", False),
    ("path: my-root/a.jsonl", False),
]  # fmt: skip


@pytest.mark.parametrize(("place", "is_asked_for"), ROOTS)
def test_a_root_is_asked_for_where_a_path_has_it(tmp_path: Path, place: str, is_asked_for: bool) -> None:
    (tmp_path / "data").mkdir()
    text = f"defaults:\n  - schema/data@_here_\ndatasets:\n  d:\n    task: sts\n    {place}\n"
    (tmp_path / "data/mine.yaml").write_text(text)
    if not is_asked_for:
        check_command("train", ["data=mine"], str(tmp_path))
        return
    with pytest.raises(ConfigError, match=r"^data\.root is missing: give it as data\.root=\.\.\.$"):
        check_command("train", ["data=mine"], str(tmp_path))
    check_command("train", ["data=mine", "data.root=somewhere"], str(tmp_path))


def test_further_places_of_configs_on_the_command_line(tmp_path: Path) -> None:
    """Also beside --config-dir, with a blank in a name, and in a sweep."""
    for folder, name in (("more confs", "mine"), ("conf", "yours")):
        (tmp_path / folder / "data").mkdir(parents=True)
        (tmp_path / folder / f"data/{name}.yaml").write_text(
            "defaults:\n  - schema/data@_here_\ndatasets:\n  d:\n    task: sts\n    path: a.jsonl\n"
        )
    place = f"hydra.searchpath=['file://{tmp_path}/more confs']"
    check_command("train", ["data=mine", place])
    check_command("train", ["data=mine,yours", place], str(tmp_path / "conf"), multirun=True)
    with pytest.raises(ConfigError, match=r"^data=yours: no such choice\."):
        check_command("train", ["data=yours", place])


def test_an_ensemble_needs_something_to_be_measured_on() -> None:
    check_command("train", ["ensemble=true"])
    for root, given in (("train", ["evaluation=none"]), ("merge", ["sources=[a,b]"])):
        with pytest.raises(ConfigError, match=r"^ensemble=true needs an evaluation: give data= and evaluation="):
            check_command(root, ["ensemble=true", *given])


def test_without_a_merge_the_sources_are_what_is_measured() -> None:
    check_command("train", ["measure_sources=false"])
    for root, given in (("train", []), ("merge", ["sources=[a,b]"])):
        with pytest.raises(ConfigError, match=r"^measure_sources=false with merge=none would evaluate the base alone"):
            check_command(root, ["measure_sources=false", "merge=none", *given])


def test_every_value_of_a_sweep_is_checked() -> None:
    check_command("train", ["merge=soup,slerp", "seed=1,2"])
    check_command("train", ["merge=glob(t*)", "optimizer.lr=interval(1e-5, 1e-4)"])
    with pytest.raises(ConfigError, match="merge=slrp: no such choice"):
        check_command("train", ["merge=soup,slrp"])


@pytest.mark.slow
def test_what_the_file_of_a_sweeper_gives_is_checked_too(tmp_path: Path) -> None:
    grid = ["hydra/sweeper=grid_small", "data.root=x"]
    given = check_command("train", [*grid, "sts_loss.pro_weight=0", "seed=7"], multirun=True)
    lines = [override.input_line for override in given]
    assert {"loss@sts_loss=codiemb", "sts_loss.pro_weight=0", "seed=7"} < set(lines)
    assert "seed=1,2,3" not in lines
    # Hydra composes once without what the file gives, where there is no codiemb: it has to see a sweep
    found = launch._options_of_swept_words([*grid, "sts_loss.pro_weight=0", "optimizer.lr=1e-5"], given)
    assert found == [*grid, "sts_loss.pro_weight=choice(0)", "optimizer.lr=1e-5"]
    with pytest.raises(ConfigError, match=r"^hydra/sweeper=grid_smal: no such choice\. Did you mean 'grid_small'"):
        check_command("train", ["hydra/sweeper=grid_smal"], multirun=True)
    (tmp_path / "hydra" / "sweeper").mkdir(parents=True)
    mine = "# @package hydra.sweeper\ndefaults: [basic]\nparams:\n  merge: soup,slrp\n"
    (tmp_path / "hydra" / "sweeper" / "mine.yaml").write_text(mine)
    with pytest.raises(ConfigError, match="merge=slrp: no such choice"):
        check_command("train", ["hydra/sweeper=mine"], str(tmp_path), multirun=True)


@pytest.mark.parametrize(
    "given", [["evaluation=none"], ["evaluation.splits=[test]"], ["experts.only=sts", "merge=soup"]]
)
def test_a_search_has_something_to_maximise(given: list[str]) -> None:
    check_command("train", ["hydra/sweeper=search"], multirun=True)
    with pytest.raises(ConfigError, match=r"^A search maximises optimized_metric, and these jobs do not measure it"):
        check_command("train", ["hydra/sweeper=search", *given], multirun=True)


def test_a_sweep_and_its_job_have_two_folders() -> None:
    given = ["merge=soup,slerp", "hydra.sweep.dir=runs/mine"]
    check_command("train", [*given, "out=runs/other"], multirun=True)
    with pytest.raises(ConfigError, match=r"^out=runs/mine is also hydra\.sweep\.dir"):
        check_command("train", [*given, "out=runs/mine"], multirun=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("callback.progress=null", r"^callback\.progress cannot be null: remove it by ~callback\.progress\.$"),
        ("trainer.max_steps=null", r"^trainer\.max_steps=null: give a number from 1, or -1 for no limit\.$"),
    ],
)
def test_null_where_there_is_none(given: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_command("train", [given])


def test_a_callback_with_its_defaults() -> None:
    check_command("train", ["+callback.mine._target_=lightning_embed.callback.WhileTraining"])


def test_numbers_of_ones_own_count_where_a_training_names_them() -> None:
    def hashed(*given: str) -> str:
        return run_hash(_compose("train", *given))

    lr, layers = "optimizer.lr=${let.t}", "merge.layers=['*=${let.t}']"
    assert hashed("+let.t=1e-5", lr) != hashed("+let.t=1e-1", lr)
    assert hashed("+let.t=1", "merge=soup", layers) == hashed("+let.t=2", "merge=soup", layers) == hashed("merge=soup")


def test_an_experiment_with_an_unknown_key(tmp_path: Path) -> None:
    experiment = tmp_path / "experiment"
    experiment.mkdir()
    for body, message in [
        ("sede: 7", "sede: no such option. Did you mean 'seed'"),
        ("trainer:\n  max_stepz: 7", "trainer.max_stepz: no such option. Did you mean 'max_steps'"),
        ("sampler:\n  accumulat: 7", "sampler.accumulat: no such option. Did you mean 'accumulate'"),
    ]:
        (experiment / "mine.yaml").write_text(f"# @package _global_\n{body}\n")
        with pytest.raises(ConfigError, match=message):
            check_command("train", ["experiment=mine"], str(tmp_path))
    (experiment / "mine.yaml").write_text("seed: 7\n")
    with pytest.raises(ConfigError, match="begin the experiment's file with the line '# @package _global_'"):
        check_command("train", ["experiment=mine"], str(tmp_path))
    (experiment / "mine.yaml").write_text("# @package _global_\nseed: 7\ntrainer:\n  max_steps: 7\n")
    check_command("train", ["experiment=mine"], str(tmp_path))


def test_flags_may_stand_between_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "seed=1", "-m", "--config-dir", "mine", "merge=soup,slerp"])
    assert launch._arguments() == (["seed=1", "merge=soup,slerp"], "mine", True)
    assert sys.argv[1:] == ["-m", "--config-dir", "mine", "seed=1", "merge=soup,slerp"]


def test_the_same_sweep_is_the_same_folder_by_whatever_launcher() -> None:
    def folder(*arguments: str) -> list[str]:
        found = launch._folder_of_sweep(["-m", *arguments])
        assert found == launch._folder_of_sweep([*arguments, "--multirun"])
        return found

    assert folder("++hydra.sweep.dir=mine") == []

    plain = folder("seed=1,2", "merge=soup")
    assert plain == folder("merge=soup", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert plain != folder("seed=1,3", "merge=soup")
    assert folder("hydra/sweeper=search", "hydra.sweeper.n_trials=3") == folder("hydra/sweeper=search")
    assert folder("seed=1,2", "hydra.sweep.dir=mine") == [], "the one that is given"


def test_launchers_and_sweepers_of_extras_are_named() -> None:
    with pytest.raises(ConfigError, match=r"Did you mean 'joblib'.*pip install 'lightning-embed\[launchers\]'"):
        check_command("train", ["hydra/launcher=jobli", "seed=1,2"], multirun=True)
    with pytest.raises(ConfigError, match=r"pip install 'lightning-embed\[optuna\]'"):
        check_command("train", ["hydra/sweeper=bayes", "seed=1,2"], multirun=True)


def test_numbers_of_ones_own() -> None:
    check_command("train", ["+let.low=0.5", "merge.layers=['encoder.*=${let.low}']"])
    with pytest.raises(ConfigError, match=r"let\.low: no such option.*To add one: \+let\.low"):
        check_command("train", ["let.low=0.5"])


def test_published_schemas_survive_pickling() -> None:
    """Launchers carry them to their workers, where the marks of dataclasses are known by identity."""
    code = (
        "import pickle, sys; from dataclasses import MISSING, fields; found = fields(pickle.load(sys.stdin.buffer)); "
        "assert found; assert all(MISSING in (each.default, each.default_factory) for each in found)"
    )
    pickled = cloudpickle.dumps(schema.twin(DatasetOptions))
    subprocess.run([sys.executable, "-c", code], input=pickled, check=True)


def test_console_scripts_exist() -> None:
    scripts = [point for point in entry_points(group="console_scripts") if point.name.startswith("lightning-embed")]
    assert {point.load() for point in scripts} == {entry.train, entry.merge}


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (
            "callback.while_training.metric=test/mean",
            r"^callback.while_training.metric=test/mean: test scores may not choose",
        ),
        (
            "callback.while_training.patience=2",
            r"^callback.while_training.patience=2 may stop a training before all expe",
        ),
        ("callback.while_training.patiense=2", r"Did you mean 'patience'"),
    ],
)
def test_what_chooses_a_step_is_checked(option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_command("train", ["callback=evaluate", "experts.snapshots=3", option])


def test_what_may_be_added() -> None:
    """One more callback, one more prompt."""
    for given in (
        ["+callback.mine._target_=lightning.pytorch.callbacks.Timer"],
        ["+callback.mine={_target_: lightning.pytorch.callbacks.Timer, interval: epoch}"],
        ["callback=none", "+callback.mine._target_=lightning.pytorch.callbacks.Timer"],
        ["+encoder.prompts.query='query: '"],
        [
            "callback=evaluate",
            "evaluation@callback.while_training.evaluation=mteb",
            "callback.while_training.evaluation.tasks=[STS12]",
        ],
    ):
        check_command("train", given)


def test_run_hash_changes_with_what_changes_the_experts() -> None:
    def of(*overrides: str) -> str:
        return run_hash(_compose("train", *overrides))

    base = of()
    for same in (
        "merge=slerp",
        "experts.only=sts",
        "trainer.devices=4",
        "logger=none",
        "evaluation=none",
        "name=other",
        "callback=evaluate",
    ):
        assert of(same) == base, same
    watched = of("callback=evaluate", "callback.while_training.every_n_steps=5")
    assert watched == base
    chosen = of("callback=evaluate", "callback.while_training.keep_best=true")
    stopped = of("callback=evaluate", "callback.while_training.patience=3")
    later = of("callback=evaluate", "callback.while_training.patience=3", "callback.while_training.every_n_steps=5")
    assert len({base, chosen, stopped, later}) == 4, "what chooses the step of an expert changes it"
    for other in (
        "seed=1",
        "optimizer.lr=1e-3",
        "experts=joint",
        "trainer.max_steps=3",
        "retrieval_loss.temperature=0.1",
    ):
        assert of(other) != base, other


def test_hashed_keys_refer_only_to_hashed_keys() -> None:
    """Interpolations are hashed as written: one that points outside would hide a difference."""
    for word in (word for word in schema.words("data") if _HUNDREDS not in word):
        cfg = _compose("train", f"data={word}")
        for key in TRAINED_BY:
            text = OmegaConf.to_yaml(cfg[key]) if key in cfg and isinstance(cfg[key], DictConfig) else ""
            for part in text.split("${")[1:]:
                head = part.split("}")[0]
                assert ":" in head or head.split(".")[0] in TRAINED_BY, f"{key} refers to {head}"


def test_a_broken_plugin_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(package: str) -> None:
        exec(compile("1 / 0", "/somewhere/plugins/bad.py", "exec"))

    monkeypatch.setattr(plugins, "_import_all", fail)
    with pytest.raises(PluginError, match=r"plugins/bad.py: cannot be imported: ZeroDivisionError"):
        _import_plugins()


def test_a_broken_package_warns_and_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Point:
        name: str = "theirs"
        value: str = "their.module"

        def load(self) -> None:
            raise ImportError("no such thing")

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point()])
    with pytest.warns(UserWarning, match=r"The plugin theirs \(their.module\) was skipped: ImportError: no such thing"):
        _import_entry_points()
