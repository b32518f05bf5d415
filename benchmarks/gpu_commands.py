"""Section `commands` of gpu_check.py: whole runs of train.py on the embedded data."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from safetensors.torch import load_file

if TYPE_CHECKING:
    from gpu_check import Check, Finding

_KILLED = -9
_JOINT = ("experts=joint", "sampler=round_robin", "merge=none", "evaluation=none")
_WHOLE = (
    "experts=per_task", "merge=self_positioning", "merge.steps=4", "mining=hard", "mining.datasets=[facts]",
    "callback=evaluate", "callback.while_training.every_n_steps=2",
)  # fmt: skip
_MORE = {
    "one rank of DDP, cached": (*_JOINT, "trainer.strategy=ddp", "step=cached", "encoder.max_tokens=128"),
    "mining, evaluation, a merge with a probe": _WHOLE,
    "LoRA": (*_JOINT, "encoder.lora_rank=4"),
    "compile": (*_JOINT, "encoder.compile=true"),
    "nf4": (*_JOINT, "encoder.lora_rank=4", "encoder.weights=nf4"),
}


def findings(check: Check) -> Iterator[Finding]:
    """The undisturbed run and a killed one first: the others say whether their parts work at all."""
    from gpu_check import tried

    yield tried("undisturbed", partial(_command, check, "plain", *_JOINT))
    yield tried("killed and resumed", partial(_resumed, check))
    for number, (name, options) in enumerate(_MORE.items()):
        if check.tiny or check.is_over:
            return
        yield tried(name, partial(_command, check, f"more-{number}", *options))


def _resumed(check: Check) -> Finding:
    _command(check, "killed", *_JOINT, "checkpoint_minutes=0.0001", kill="before_step:4", status=_KILLED)
    found = _command(check, "killed", *_JOINT, "checkpoint_minutes=0.0001")
    one, other = (
        load_file(check.folder / f"runs/{name}/models/joint/model.safetensors") for name in ("plain", "killed")
    )
    worst = max(float((one[key].float() - other[key].float()).abs().max()) for key in one)
    return {**found, "ok": found["ok"] and worst == 0, "worst_difference": worst}


def _command(check: Check, name: str, *options: str, kill: str = "", status: int = 0) -> Finding:
    """Four steps of train.py."""
    sizes = [
        f"data.datasets.{each}.{size}" for each in ("facts", "phrases") for size in ("max_rows=128", "batch_size=16")
    ]
    place = (
        ["trainer.accelerator=cpu", "encoder.max_length=16"]
        if check.device.type == "cpu"
        else ["trainer.accelerator=gpu"]
    )
    arguments = [
        f"encoder.path={check.model}", f"out={check.folder}/runs/{name}", "trainer.enable_progress_bar=false",
        "trainer.max_steps=4", "trainer.val_check_interval=2", "trainer.limit_val_batches=1", *sizes, *place, *options,
    ]  # fmt: skip
    own = {"LIGHTNING_EMBED_CACHE": str(check.folder / "cache"), "HF_HUB_OFFLINE": "1", "LIGHTNING_EMBED_KILL_AT": kill}
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "lightning_embed", *arguments], cwd=check.folder, env={**os.environ, **own},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    found: Finding = {"ok": done.returncode == status, "status": done.returncode}
    if not found["ok"]:
        found["said"] = (done.stdout + done.stderr)[-800:]
        if status == _KILLED:
            raise RuntimeError(f"expected a killed process, found {found}")
    return {**found, "seconds": round(time.perf_counter() - begin, 1)}
