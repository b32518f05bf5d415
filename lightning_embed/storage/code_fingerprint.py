"""Fingerprints of code for cache keys: a key must change when the code that filled the cache changes."""

from hashlib import blake2b
from pathlib import Path


def fingerprint(folder: Path) -> str:
    """Sixteen hexadecimal digits that change with any Python or TOML file below `folder`."""
    digest = blake2b(digest_size=8)
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".py", ".toml")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
