"""benchmarks/gpu_check.py: a rehearsal on the CPU, of all that runs in one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_a_rehearsal(tiny_model: Path, tmp_path: Path) -> None:
    """Every way has the gradient of float32 on the CPU; every shape has a step of ours, and one of theirs."""
    file = tmp_path / "found.json"
    given = ["--tiny", "--model", str(tiny_model), "--out", str(file), "parity", "speed"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/gpu_check.py"), *given], cwd=tmp_path, text=True, capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(file.read_text())["findings"]
    parity = [each for each in found if each["section"] == "parity"]
    assert {each["name"].partition(":")[0] for each in parity} == {"infonce", "multi_positive", "cosent", "codiemb"}
    refused = {each["name"].partition(": ")[2] for each in parity if "refused" in each}
    assert refused == {f"kernel={word}" for word in ("varlen", "flash", "flex")}, "a CPU has none of these"
    computed = [each for each in parity if "refused" not in each]
    assert min(each["cosine_of_gradients"] for each in computed if "bfloat16" not in each["name"]) > 0.9999
    speed = {each["name"].partition(",")[0]: each for each in found if each["section"] == "speed"}
    assert speed.keys() == {"bert_base", "bert_large", "modernbert_base", "qwen3_0_6b"}
    for each in speed.values():
        assert each["ms"].keys() >= {"ours", "ours, cached", "sentence-transformers, padded"}, each
