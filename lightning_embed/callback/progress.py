"""The line of a training on the terminal."""

import time
from datetime import datetime
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.progress import BarColumn, Progress, TextColumn

from lightning_embed.report.console import PlainConsole


class StepProgress(ProgressBar):
    """Shows `step 8/20 · loss 1.30 · 1.6 it/s · 0:12 left`: on a terminal as one line, elsewhere as lines with the time.

    Steps are those of the whole training, a resumed one goes on counting; the rate and the time left are of this
    process. The loss is that of the last step, on a GPU of the last one that was logged.

    Args:
        every: seconds between two lines where the output is no terminal (a file, a scheduler's log); positive.
    """

    def __init__(self, every: float = 30.0) -> None:
        super().__init__()
        self.every = every
        self._enabled = True
        self._bar: Progress | None = None

    def disable(self) -> None:
        """Show nothing."""
        self._enabled = False

    def enable(self) -> None:
        """Show again."""
        self._enabled = True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the line."""
        self._start = self._last = time.monotonic()
        self._first, self._steps = trainer.global_step, pl_module.num_steps()  # type: ignore[operator]
        self._console = PlainConsole()
        if self._enabled and self._console.is_terminal:
            columns = TextColumn("{task.description}"), BarColumn(bar_width=None)
            self._bar = Progress(*columns, console=self._console, transient=True, expand=True)
            self._task = self._bar.add_task(self._text(trainer), total=self._steps, completed=self._first)
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show a step."""
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, description=self._text(trainer))
        elif self._enabled and time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            self._console.print(f"{datetime.now():%H:%M:%S} {self._text(trainer)}", highlight=False)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:  # fmt: skip
        """Show that the dev loss is measured."""
        if self._bar is not None:
            text = f"step {trainer.global_step:,}/{self._steps:,} · dev loss, batch {batch_idx + 1:,}"
            self._bar.update(self._task, description=text)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the step again."""
        if self._bar is not None:
            self._bar.update(self._task, description=self._text(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remove the line."""
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Remove the line, so that the message stands alone."""
        self._stop()

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _text(self, trainer: Trainer) -> str:
        step, seconds = trainer.global_step, time.monotonic() - self._start
        parts = [f"step {step:,}/{self._steps:,}"]
        if (loss := trainer.progress_bar_metrics.get("loss")) is not None:
            parts.append(f"loss {loss:.2f}")
        if step > self._first:
            rate = (step - self._first) / seconds
            parts += [_rate(rate), f"{_clock((self._steps - step) / rate)} left"]
        return " · ".join(parts)


def _rate(steps_per_second: float) -> str:
    """Steps per second, or seconds per step where that is the larger number."""
    return f"{steps_per_second:.1f} it/s" if steps_per_second >= 1 else f"{1 / steps_per_second:.1f} s/it"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
