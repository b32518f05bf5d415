"""Peak memory of each rank of a training: one process, DDP, and `trainer.strategy=fsdp`; and whether they train the same.

python benchmarks/sharded.py FOLDER [--step cached] [--max_tokens 256]

A random BERT-base (110M parameters, float32, AdamW, dropout off), three steps of 8 pairs, on gloo and CPUs. The peak is
of the last step: GiB of resident memory above that of the process before it opened the model. Differences are those of
the losses, and of the weights after the last step, to one process.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path
from typing import Any

CASES = ("one 1", "ddp 2", "fsdp 2", "fsdp 4")
STEPS, ROWS, GIB = 3, 8, 2**30
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536"}  # freed tensors go back to the system


def resident(field: str) -> int:
    """VmRSS or VmHWM (the peak) of this process, in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


def batches(encoder: Any, rank: int, ranks: int) -> list[Any]:
    """The rows of a rank: texts of 4 to 40 words, of the two that the model's tokenizer knows."""
    import torch

    from lightning_embed.types import Batch, Task

    made, draw = [], random.Random(0)
    for _ in range(STEPS):
        texts = [" ".join(draw.choices("ab", k=draw.randint(4, 40))) for _ in range(2 * ROWS)]
        own = range(rank * ROWS // ranks, (rank + 1) * ROWS // ranks)
        numbers = [*own, *(ROWS + row for row in own)]
        index, none = torch.arange(len(own)), torch.empty(len(own), 0, dtype=torch.int64)
        tokens, hashes = encoder.tokenizer([texts[number] for number in numbers]), torch.tensor(numbers)
        made.append((Batch("pairs", Task.retrieval, tokens, hashes, index, len(own) + index[:, None], none),))
    return made


def train(model: Path, strategy: str, out: Path, step: str, max_tokens: int) -> None:
    """Train as one rank; write its findings, and on rank zero the weights."""
    import torch
    from lightning import Trainer
    from lightning.pytorch.strategies import DDPStrategy
    from torch.utils.data import DataLoader

    from lightning_embed import EmbeddingModule
    from lightning_embed.encoder import Encoder, EncoderOptions
    from lightning_embed.encoder.options import Dtype
    from lightning_embed.loss.infonce import InfoNCE
    from lightning_embed.training.sharded import Sharded
    from lightning_embed.types import Task

    torch.set_num_threads(1)
    rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))

    class Measured(EmbeddingModule):
        """Notes losses, and the peak of the last step."""

        losses_seen: list[Any] = []
        peak = 0

        def on_train_start(self) -> None:
            self.eval()

        def on_train_batch_start(self, *_: Any) -> None:
            Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew

        def on_train_batch_end(self, outputs: Any, *_: Any) -> None:
            self.losses_seen.append(float(self.all_gather(outputs["loss"]).mean()))
            self.peak = resident("VmHWM")

    before = resident("VmRSS")
    encoder = Encoder(EncoderOptions(str(model), dtype=Dtype.float32, max_tokens=max_tokens))
    losses = {Task.retrieval: InfoNCE(temperature=0.1)}
    module = Measured(encoder, losses, partial(torch.optim.AdamW, lr=1e-5, eps=1e-4), step=step)
    chosen: Any = {"one": "auto", "ddp": DDPStrategy(gradient_as_bucket_view=True), "fsdp": Sharded()}[strategy]
    trainer = Trainer(
        accelerator="cpu", devices=ranks, strategy=chosen, max_steps=STEPS, logger=False, use_distributed_sampler=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(batches(encoder, rank, ranks), batch_size=None, collate_fn=lambda item: item))
    whole = chosen.gathered(encoder, {}) if strategy == "fsdp" else encoder
    weights = {} if whole is None or rank else {name: p.detach() for name, p in whole.named_parameters()}
    torch.save({"losses": module.losses_seen, "peak": module.peak - before, "weights": weights}, out / f"{rank}.pt")


def measure(case: str, model: Path, step: str, max_tokens: int) -> list[dict[str, Any]]:
    """What the ranks of a case found."""
    import torch

    strategy, ranks = case.split()
    with tempfile.TemporaryDirectory() as folder:
        launch = ["-m", "torch.distributed.run", f"--nproc_per_node={ranks}", "--standalone"] if int(ranks) > 1 else []
        given = ["--strategy", strategy, "--out", folder, "--step", step, "--max_tokens", str(max_tokens)]
        command = [sys.executable, *launch, __file__, str(model), *given]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | ENVIRONMENT)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        return [torch.load(Path(folder, f"{rank}.pt")) for rank in range(int(ranks))]


def main() -> None:
    """Measure all cases."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the model, which is made if it is not there")
    parser.add_argument("--step", default="plain")
    parser.add_argument("--max_tokens", type=int, default=4096)
    parser.add_argument("--strategy", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.strategy:
        train(given.folder, given.strategy, given.out, given.step, given.max_tokens)
        return
    from random_models import make_models

    model, _ = make_models(given.folder, 0)
    expected: dict[str, Any] = {}
    print(f"{'':8} {'peak per rank, GiB':24} largest difference of a loss, of a weight")
    for case in CASES:
        found = measure(case, model, given.step, given.max_tokens)
        first = found[0]
        expected = expected or first
        loss = max(abs(a - b) for a, b in zip(first["losses"], expected["losses"], strict=True))
        weight = max(float((w - expected["weights"][name]).abs().max()) for name, w in first["weights"].items())
        peaks = " ".join(f"{each['peak'] / GIB:.2f}" for each in found)
        print(f"{case:8} {peaks:24} {loss:.1e}, {weight:.1e}", flush=True)


if __name__ == "__main__":
    main()
