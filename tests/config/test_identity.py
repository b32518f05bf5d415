"""Names of folders: of words, options and content, whatever their place."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file, save_file

from lightning_embed.config import run_yaml
from lightning_embed.config.identity import (
    Identity,
    evaluation_hash,
    freeze,
    job_hash,
    merge_hash,
    run_hash,
    run_identity,
)
from lightning_embed.errors import ConfigError
from lightning_embed.merge import Source
from lightning_embed.storage import hub
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy

Make = Callable[..., DictConfig]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_toy(tmp_path / "data", rows=8)


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "base"))


@pytest.fixture
def config(base: Path, data: Path, tmp_path: Path) -> Make:
    def make(*overrides: str, model: Path = base, root: Path = data) -> DictConfig:
        return _cfg("train", [*_overrides(model, root, tmp_path / "out"), *overrides])

    return make


def _append_row(file: Path) -> None:
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join([*lines, lines[0]]))


def _scale_weights(model: Path) -> None:
    """Other weights in a file of the same size."""
    weights = load_file(model / "model.safetensors")
    save_file({name: tensor * 1.5 for name, tensor in weights.items()}, model / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("part", ["train", "dev"])
def test_edited_rows_are_another_run(config: Make, data: Path, part: str) -> None:
    before = run_hash(config())
    _append_row(data / "pairs" / f"{part}.jsonl")
    assert run_hash(config()) != before


def test_edited_tests_are_the_same_run_and_another_evaluation(config: Make, data: Path) -> None:
    before = run_hash(config()), evaluation_hash(config()), job_hash("train", config())
    _append_row(data / "pairs" / "test.jsonl")
    after = run_hash(config()), evaluation_hash(config()), job_hash("train", config())
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]


def test_replaced_weights_are_another_run(config: Make, base: Path) -> None:
    before = run_hash(config()), job_hash("train", config())
    size = (base / "model.safetensors").stat().st_size
    _scale_weights(base)
    assert (base / "model.safetensors").stat().st_size == size
    assert run_hash(config()) != before[0]
    assert job_hash("train", config()) != before[1]


def test_a_card_beside_the_weights_changes_nothing(config: Make, base: Path) -> None:
    before = run_hash(config())
    (base / "README.md").write_text("a card")
    (base / ".gitattributes").write_text("")
    assert run_hash(config()) == before
    (base / "config.json").write_text((base / "config.json").read_text().replace("0.1", "0.2"))
    assert run_hash(config()) != before


def test_the_same_files_elsewhere_are_the_same_run(config: Make, base: Path, data: Path, tmp_path: Path) -> None:
    model, root = (Path(shutil.copytree(folder, tmp_path / "other" / folder.name)) for folder in (base, data))
    one, two = config(), config(model=model, root=root)
    for name in (run_hash, evaluation_hash, lambda cfg: job_hash("train", cfg)):
        assert name(one) == name(two)


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("trainer.devices=2", True),
        ("logger=none", True),
        ("merge=ties", True),
        ("experts.only=sts", True),
        ("callback=evaluate", True),  # it only measures
        ("callback=evaluate callback.while_training.keep_best=true", False),
        ("optimizer.lr=1e-4", False),
        ("scheduler=constant", False),
        ("sampler=round_robin", False),
        ("seed=7", False),
    ],
)
def test_what_changes_the_experts_changes_the_hash(config: Make, override: str, same: bool) -> None:
    assert (run_hash(config()) == run_hash(config(*override.split()))) is same


def test_no_python_path_of_ours_is_hashed(config: Make) -> None:
    """A moved module renames no folder; a class of somebody else is the word that the user typed."""
    here = config("callback=evaluate", "callback.while_training.keep_best=true")
    moved = here.copy()
    moved.scheduler._target_ = "lightning_embed.elsewhere.linear"
    moved.callback.while_training._target_ = "lightning_embed.elsewhere.WhileTraining"
    moved.callback.while_training.evaluation._target_ = "lightning_embed.elsewhere.Local"
    assert run_hash(here) == run_hash(moved)
    moved.optimizer._target_ = "bitsandbytes.optim.AdamW"
    assert run_hash(here) != run_hash(moved)
    assert "lightning_embed." not in str(run_identity(here))


def test_numbers_named_in_let_count(config: Make) -> None:
    one, two = (config(f"+let.rate={rate}", "optimizer.lr=${let.rate}") for rate in (0.1, 0.2))
    assert run_hash(one) != run_hash(two)
    one, two = (config(f"+let.rate={rate}") for rate in (0.1, 0.2))
    assert run_hash(one) == run_hash(two)


def test_a_hub_name_counts_by_its_commit(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None, str]] = []
    commits = {"owner/model": "1" * 40, "owner/rows": "2" * 40}
    monkeypatch.setattr(hub, "commit", lambda *given: asked.append(given) or commits[given[0]])
    given = ["encoder.path=owner/model", "data.datasets.facts.path=owner/rows"]
    before = run_hash(config(*given))
    assert ("owner/model", None, "model") in asked
    assert ("owner/rows", None, "dataset") in asked
    for name in commits:
        commits[name] = "3" * 40
        after = run_hash(config(*given))
        assert after != before, name
        before = after


def test_commits_are_read_from_the_cache_without_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refs = tmp_path / "models--owner--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.commit.cache_clear()
    assert hub.commit("owner/name", None, "model") == "a" * 40
    assert hub.commit("owner/name", "b" * 40, "model") == "b" * 40
    assert hub.commit("owner/absent", None, "model") is None
    hub.commit.cache_clear()


def test_sources_of_a_merge_count_by_content_and_order(base: Path, tmp_path: Path) -> None:
    one, other = (Path(shutil.copytree(base, tmp_path / name)) for name in ("one", "other"))
    _scale_weights(other)

    def of(*paths: Path) -> str:
        return run_hash(_cfg("merge", [f"sources=[{','.join(map(str, paths))}]"]))

    before = of(one, other)
    assert of(other, one) != before
    moved = [Path(shutil.copytree(path, tmp_path / "moved" / path.name)) for path in (one, other)]
    assert of(*moved) == before
    _scale_weights(one)
    assert of(one, other) != before


def test_the_name_of_a_merge_is_of_its_models(base: Path, tmp_path: Path) -> None:
    config = _cfg("merge", ["sources=[a]"])
    copy = Path(shutil.copytree(base, tmp_path / "copy"))
    name = merge_hash(config, [Source(base, "a", 3)], None, [])
    assert merge_hash(config, [Source(copy, "a", 3)], None, []) == name
    assert merge_hash(config, [Source(copy, "a", 4)], None, []) != name
    assert merge_hash(config, [Source(copy, "a", 3)], base, []) != name
    _scale_weights(copy)
    assert merge_hash(config, [Source(copy, "a", 3)], None, []) != name


def test_a_frozen_config_keeps_its_folder(config: Make, data: Path) -> None:
    cfg = config("out=runs/x-${run_hash:}")
    identity = freeze(cfg)
    _append_row(data / "pairs" / "train.jsonl")
    assert cfg.out == f"runs/x-{identity.hash}"
    assert run_hash(cfg) != identity.hash


def test_a_new_folder_of_an_old_command_says_why(config: Make, data: Path, base: Path, tmp_path: Path) -> None:
    def folder(identity: Identity) -> Path:
        return tmp_path / "runs" / f"mine-{identity.hash}"

    cfg = config("name=mine")
    first = run_identity(cfg)
    run_yaml.write(cfg, folder(first), first)
    assert run_yaml.changes_since_last_run(folder(first), "mine", first) is None
    _append_row(data / "pairs" / "train.jsonl")
    _scale_weights(base)
    second = run_identity(cfg)
    said = run_yaml.changes_since_last_run(folder(second), "mine", second)
    changed = "the train rows of facts, the base model (encoder.path) have changed since"
    assert said == f"{changed} {folder(first)}: this is another run, in {folder(second)}"
    with pytest.raises(ConfigError, match="holds another run: since then the train rows of facts, the base model"):
        run_yaml.refuse_other_run(folder(first), second)
    other = run_identity(config("name=mine", "seed=8"))
    assert run_yaml.changes_since_last_run(folder(other), "mine", other) is None


def test_files_that_are_not_there_do_not_stop_the_name(config: Make, tmp_path: Path) -> None:
    """They are reported by what reads them, in a sentence of its own."""
    cfg = config("data.datasets.facts.path=/nowhere", f"encoder.path={tmp_path}/nothing")
    assert run_hash(cfg) == run_hash(cfg)
    assert OmegaConf.is_config(cfg)


def test_a_hash_is_stable() -> None:
    """Eight letters that a later version must find again: they name the folders of users."""
    identity = Identity({"seed": 42, "encoder": {"pooling": "mean"}}, {"encoder": "ab", "data.facts.train": "cd"})
    assert identity.hash == "8e1f7bdf"
