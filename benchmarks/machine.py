"""What the figures of a benchmark depend on."""

import os
import platform
from pathlib import Path
from typing import Any

_FEATURES = {"amx_tile": "AMX", "avx512_bf16": "AVX512-BF16", "avx512f": "AVX512", "avx2": "AVX2"}


def machine() -> dict[str, Any]:
    """The processor, what it multiplies with, cores and load."""
    known = Path("/proc/cpuinfo")
    facts = dict(line.split(":", 1) for line in known.read_text().splitlines() if ":" in line) if known.exists() else {}
    facts = {name.strip(): value.strip() for name, value in facts.items()}
    flags = facts.get("flags", "").split()
    return {
        "cpu": facts.get("model name", platform.processor() or "unknown"),
        "features": [name for flag, name in _FEATURES.items() if flag in flags],
        "cores": os.cpu_count(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
    }


def machine_line() -> str:
    """The same as a line."""
    facts = machine()
    features, load = ", ".join(facts["features"]) or "no vector units known", facts["load"][0]
    return f"{facts['cpu']} ({features}), {facts['cores']} cores, load {load:.1f} at the start"
