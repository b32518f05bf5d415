"""The folder of files that can be computed again: `~/.cache/lightning_embed`, or $LIGHTNING_EMBED_CACHE."""

import os
from pathlib import Path
from tempfile import gettempdir


def _folder() -> Path:
    """The folder; for a user without a home, such as an arbitrary one of a container, in the temporary folder."""
    named = os.path.expanduser(os.environ.get("LIGHTNING_EMBED_CACHE") or "~/.cache/lightning_embed")
    return Path(gettempdir(), f"lightning_embed-{os.getuid()}") if named.startswith("~") else Path(named)


CACHE = _folder()
