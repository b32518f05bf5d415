"""What a training shows while it runs."""

import re
import sys
from pathlib import Path

import pytest
from lightning import Trainer

from lightning_embed.callback import StepProgress
from lightning_embed.callback.progress import _clock, _rate
from tests.callback.toy import toy_training
from tests.toy import write_toy

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's, of few workers
LINE = r"step {step}/4 · loss \d+\.\d\d · \d+\.\d (it/s|s/it) · \d+:\d\d left"


def _fit(bar: StepProgress, model: Path, folder: Path) -> None:
    Trainer(
        accelerator="cpu", max_steps=4, max_epochs=-1, logger=False, callbacks=[bar], enable_checkpointing=False,
        enable_model_summary=False, use_distributed_sampler=False, num_sanity_val_steps=0, val_check_interval=2,
        check_val_every_n_epoch=None,
    ).fit(*toy_training(model, write_toy(folder)))  # fmt: skip


def test_lines_of_a_log(tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _fit(StepProgress(every=0.0), tiny_model, tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for step, line in enumerate(lines, 1):
        assert re.fullmatch(r"\d\d:\d\d:\d\d " + LINE.format(step=step), line), line


def test_a_short_training_writes_no_line_to_a_log(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _fit(StepProgress(), tiny_model, tmp_path)
    assert capsys.readouterr().out == ""


def test_one_line_of_a_terminal(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(sys.stdout), "isatty", lambda self: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("CI", raising=False)
    _fit(StepProgress(), tiny_model, tmp_path)
    shown = capsys.readouterr().out
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert re.search(LINE.format(step=4), plain)
    assert max(map(len, re.split(r"[\r\n]+", plain))) <= 80
    assert shown.rstrip().endswith(("\x1b[2K", "\x1b[?25h")), "the line is removed at the end"


def test_the_ranks_behind_the_first_show_nothing(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bar = StepProgress(every=0.0)
    bar.disable()
    _fit(bar, tiny_model, tmp_path)
    assert capsys.readouterr().out == ""


def test_numbers_are_readable() -> None:
    assert [_rate(1.64), _rate(0.2)] == ["1.6 it/s", "5.0 s/it"]
    assert [_clock(12.0), _clock(75.4), _clock(3725.0)] == ["0:12", "1:15", "1:02:05"]
