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
    dev_hash,
    evaluation_hash,
    freeze,
    job_hash,
    merge_hash,
    probe_hash,
    run_hash,
    run_identity,
    sweep_hash,
)
from lightning_embed.config.values import plain
from lightning_embed.data import sources
from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.readers import read_hub, read_rows
from lightning_embed.errors import ConfigError, DataError
from lightning_embed.merge import Source
from lightning_embed.storage import hub
from lightning_embed.storage.checksum import digest, directory_digest
from lightning_embed.types import Task
from tests.merge import toy
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


def test_adapters_and_their_weights_are_another_run(config: Make) -> None:
    lora = "encoder.peft={_target_: peft.LoraConfig, r: 4, target_modules: all-linear}"
    given = [(), ("encoder.lora_rank=4",), (lora,), (lora, "encoder.peft.r=8"), (lora, "+encoder.peft.use_dora=true")]
    given += [(lora, f"encoder.weights={word}") for word in ("bfloat16", "int8", "nf4")]
    assert len({run_hash(config(*words)) for words in given}) == len(given)
    assert run_hash(config("encoder.weights=float32", "encoder.peft=null")) == run_hash(config())


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


@pytest.mark.parametrize("where", ["data", "data.datasets.phrases"])
def test_where_rows_of_tests_are_left_out_the_tests_are_part_of_the_run(config: Make, data: Path, where: str) -> None:
    """Rows and probe depend on all tests then; else a run keeps its name, whatever its tests are."""
    kept = run_identity(config())
    cfg = config(f"{where}.decontaminate=drop")
    before = run_hash(cfg), probe_hash(cfg)
    assert before[0] != kept.hash
    assert before[1] != probe_hash(config())
    assert evaluation_hash(cfg) == evaluation_hash(config())
    _append_row(data / "pairs" / "test.jsonl")
    assert run_hash(cfg) != before[0]
    assert probe_hash(cfg) != before[1]
    assert run_hash(config()) == kept.hash


@pytest.mark.parametrize(
    ("option", "measured"),
    [("max_length=9", True), ("query_max_length=9", True), ("document_max_length=9", True), ("pad=repeat", False)],
)
def test_lengths_count_for_the_measurement_too(config: Make, option: str, measured: bool) -> None:
    cfg = config(f"data.datasets.facts.{option}")
    assert run_hash(cfg) != run_hash(config())
    assert (evaluation_hash(cfg) != evaluation_hash(config())) == measured


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
        ("mirror=s3://bucket/runs", True),
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


def test_a_copy_changes_no_name(config: Make) -> None:
    """The same job, and the same sweep, with and without `mirror=`."""
    assert job_hash("train", config()) == job_hash("train", config("mirror=s3://bucket/runs"))
    assert sweep_hash(["seed=1,2", "mirror=s3://bucket/runs"]) == sweep_hash(["seed=1,2"]) != sweep_hash(["seed=1,3"])


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
    changed = "the train rows of facts, the base model (encoder.path)"
    assert said == f"Changed since {folder(first)}: {changed}. This is another run, in {folder(second)}."
    with pytest.raises(
        ConfigError, match=r"holds another run\. Changed since then: the train rows of facts, the base model"
    ):
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


def test_splits_of_a_hub_dataset_count_where_they_are_used(config: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "commit", lambda *_: "1" * 40)

    def of(*given: str) -> tuple[str, str, str, str]:
        cfg = config("data.datasets.facts.path=owner/rows", *(f"data.datasets.facts.{each}" for each in given))
        return run_hash(cfg), evaluation_hash(cfg), dev_hash(cfg), job_hash("train", cfg)

    base = of("dev=a", "test=t")
    other_test, other_dev = of("dev=a", "test=validation"), of("dev=b", "test=t")
    assert [one == two for one, two in zip(base, other_test, strict=True)] == [True, False, True, False]
    assert [one == two for one, two in zip(base, other_dev, strict=True)] == [False, False, False, False]


def test_an_unknown_revision_is_not_main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str | None] = []

    def load_dataset(name: str, split: str, revision: str | None) -> None:
        asked.append(revision)
        raise ConnectionError("no network")

    monkeypatch.setattr(hub, "commit", lambda *_: None)
    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    with pytest.raises(DataError, match="no network"):
        read_hub("owner/rows", "train", DatasetOptions(Task.retrieval, "owner/rows", revision="v9"), tmp_path)
    assert asked == ["v9"]


def test_an_answer_of_the_hub_is_known_without_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["c" * 40, None])
    monkeypatch.setattr(hub, "CACHE", tmp_path)
    monkeypatch.setattr(hub, "_asked", lambda *_: next(answers))
    hub.commit.cache_clear()
    assert hub.commit("owner/name", "v1", "dataset") == "c" * 40
    hub.commit.cache_clear()  # as in a later process, on a machine without a network
    assert hub.commit("owner/name", "v1", "dataset") == "c" * 40
    hub.commit.cache_clear()


def test_the_order_of_datasets_counts(config: Make) -> None:
    cfg = config()
    turned = cfg.copy()
    datasets = dict(reversed(list(cfg.data.datasets.items())))
    turned.data.datasets = {}
    turned.data.datasets = datasets
    assert list(turned.data.datasets) == list(reversed(list(cfg.data.datasets)))
    assert run_hash(turned) != run_hash(cfg)


def test_a_dev_set_that_appears_changes_the_rows_of_a_probe(config: Make, data: Path) -> None:
    kept = (data / "pairs" / "dev.jsonl").read_text()
    with_dev = probe_hash(config())
    (data / "pairs" / "dev.jsonl").unlink()
    assert probe_hash(config()) != with_dev
    (data / "pairs" / "dev.jsonl").write_text(kept * 2)
    assert probe_hash(config()) == with_dev


def test_the_hash_may_stand_in_a_hashed_option(config: Make) -> None:
    """It counts as nothing there, at any depth of the stack."""
    given = "+callback.mine={_target_:mine.Writes,folder:'runs/${run_hash:}/x'}"

    def deep(depth: int) -> str:
        return deep(depth - 1) if depth else run_hash(config(given))

    assert deep(0) == deep(40) != run_hash(config())


def test_the_environment_counts_as_it_is_written(config: Make, monkeypatch: pytest.MonkeyPatch, data: Path) -> None:
    """A restart on another node of a cluster is the same run; the files that a variable leads to count by content."""
    given = ["+callback.mine={_target_:mine.Writes,folder:'${oc.env:NODE}/x'}", "data.root=${oc.env:DATA}"]
    found = []
    for node in ("n1", "n2"):
        monkeypatch.setenv("NODE", node)
        monkeypatch.setenv("DATA", str(shutil.copytree(data, data.parent / node)))
        found.append(run_hash(config(*given, "data.datasets.facts.path=${data.root}/pairs")))
    assert found[0] == found[1]


def test_with_a_callback_that_may_stop_measuring_dev_counts(config: Make) -> None:
    stops = "+callback.stop={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:dev/loss/facts}"
    often = "trainer.val_check_interval=2"
    assert run_hash(config()) == run_hash(config(often))
    assert run_hash(config(stops)) != run_hash(config(stops, often))


def test_the_dtype_of_an_evaluation_is_part_of_its_hash(config: Make) -> None:
    """float32 is not: results of versions without the option are those of float32."""
    assert evaluation_hash(config("evaluation.dtype=float32")) == evaluation_hash(config())
    faster = config("evaluation.dtype=bfloat16")
    assert evaluation_hash(faster) != evaluation_hash(config())
    assert run_hash(faster) == run_hash(config())
    plain = config("~evaluation.dtype")
    assert evaluation_hash(plain) == evaluation_hash(config())


def test_ranks_that_find_other_files_stop(config: Make, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = freeze(config()).hash
    monkeypatch.setattr("lightning_embed.runtime.peers.agree", lambda _, value: value == first)
    freeze(config())
    _append_row(data / "pairs" / "train.jsonl")
    with pytest.raises(ConfigError, match="Two ranks found different data"):
        freeze(config())


def test_other_sources_are_another_run_and_changed_ones_are_not(base: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        shutil.copytree(base, tmp_path / name)

    def identity(*names: str, more: tuple[str, ...] = ()) -> Identity:
        return run_identity(_cfg("merge", [f"sources=[{','.join(str(tmp_path / n) for n in names)}]", *more]))

    first = identity("a", "b")
    _scale_weights(tmp_path / "a")
    assert identity("a", "b").options_hash == first.options_hash
    assert identity("a", "b").changed_since(first.content) == ["the model a"]
    assert identity("a", "c").options_hash != first.options_hash
    assert identity("a", "b", more=(f"base={base}",)).options_hash != first.options_hash


def test_rows_that_change_while_they_are_read_are_refused(data: Path, tmp_path: Path, monkeypatch) -> None:
    file, read = data / "pairs" / "train.jsonl", sources.parts

    def edited(path: Path):
        yield from read(path)
        _append_row(path)

    monkeypatch.setattr(sources, "parts", edited)
    options = DatasetOptions(Task.retrieval, str(file))
    with pytest.raises(DataError, match="changed while it was read"):
        read_rows(file, options, tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*.arrow"))


def test_merges_of_earlier_versions_keep_their_names(tmp_path: Path) -> None:
    """Options that came later are a part of the name only where they are given."""
    base = toy.write(tmp_path / "a", toy.model(0))
    names = []
    for options in ([], ["merge.allow=[tokens]"], ["vocabulary=first"], ["vocabulary=base"]):
        config = _cfg("merge", [f"sources=[{base}]", *options])
        names.append(merge_hash(config, [Source(base, "a")], None, []))
    assert len(set(names)) == 4
    config = _cfg("merge", [f"sources=[{base}]"])
    without = plain(config.merge, as_words=True)
    del without["allow"]
    expected = digest([[without, config.seed, str(config.out_dtype)], [[("a", directory_digest(base), None)], None]])
    assert names[0] == expected


def test_a_test_share_counts_where_it_is_given() -> None:
    shares = [[], ["data.datasets.facts.test_share=0"], ["data.datasets.facts.test_share=0.1"]]
    configs = [_cfg("train", ["data=sample", *share]) for share in shares]
    without, zero, some = (run_identity(config) for config in configs)
    assert without.hash == zero.hash != some.hash
    tests = [evaluation_hash(config) for config in configs]
    assert tests[0] == tests[1] != tests[2]
