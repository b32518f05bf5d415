"""What a user should know of the data stands on the terminal, once."""

import json
from pathlib import Path

import pytest
import torch

from lightning_embed.errors import ConfigError
from lightning_embed.run import build
from tests.run.test_train import _cfg, _overrides
from tests.toy import write_toy


@pytest.fixture
def overrides(tmp_path: Path) -> list[str]:
    toy = write_toy(tmp_path)
    file = toy / "pairs" / "train.jsonl"
    rows = [json.loads(line) | {"id[/red]": 1, "instruction": "x"} for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return _overrides(toy, toy, tmp_path / "run")


def test_notes_are_printed_once_per_dataset(overrides: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the second time from the cache
        build.datasets(_cfg("train", overrides))
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "facts: columns that are not read: 'id[/red]', 'instruction'."
        assert lines[1].startswith("facts: a prompt of each row ('instruction') is not used")
        assert len(lines) == 2


def test_one_rank_prints(
    overrides: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    build.datasets(_cfg("train", [*overrides, "trainer.devices=2"]))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("{_target_: peft.LoraConfig, rank: 4}", r"encoder.peft.rank: peft.LoraConfig has no such option. Known: .*"),
        ("{_target_: peft.LoraKonfig, r: 4}", r"encoder.peft._target_=peft.LoraKonfig: .*"),
    ],
)  # fmt: skip
def test_options_of_an_adapter_are_checked_first(overrides: list[str], adapter: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build.check_components(_cfg("train", [*overrides, f"encoder.peft={adapter}"]))
    build.check_components(_cfg("train", [*overrides, "encoder.peft={_target_: peft.LoraConfig, r: 4}"]))


def test_models_are_measured_in_the_dtype_of_the_evaluation(overrides: list[str], tiny_model: Path) -> None:
    found = {}
    for dtype in ("float32", "bfloat16"):
        load = build.loader(_cfg("train", [*overrides, f"evaluation.dtype={dtype}"]), [])
        assert dtype in repr(load), "scores are kept under it"
        found[dtype] = load(tiny_model).encode(["red cat", "small dog"])
    difference = (found["float32"] - found["bfloat16"]).abs().max()
    assert 0 < difference < 0.05


@pytest.mark.parametrize(("word", "where", "every"), [("auto", "cpu", 1), ("auto", "cuda", 10), (7, "cuda", 7)])
def test_steps_between_logs(
    word: object, where: str, every: int, overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "device", lambda _: where)
    cfg = _cfg("train", [*overrides, f"trainer.log_every_n_steps={word}"])
    assert build.trainer(cfg, [], tmp_path).log_every_n_steps == every


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["trainer.devices=1"], "SingleDeviceStrategy"),
        (["trainer.devices=auto"], "SingleDeviceStrategy"),
        (["trainer.devices=2"], "DDPStrategy"),
        (["trainer.devices=2", "trainer.strategy=ddp"], "DDPStrategy"),
        (["trainer.devices=1", "trainer.num_nodes=2"], "DDPStrategy"),
        (["trainer.devices=2", "trainer.strategy=fsdp"], "Sharded"),
    ],
)
def test_gradients_are_not_held_twice(
    given: list[str], expected: str, overrides: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    strategy = build.trainer(_cfg("train", [*overrides, "trainer.accelerator=cpu", *given]), [], tmp_path).strategy
    assert type(strategy).__name__ == expected
    if expected == "DDPStrategy":
        assert strategy._ddp_kwargs == {"gradient_as_bucket_view": True}
