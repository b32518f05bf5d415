"""The folder of files that can be computed again: `~/.cache/lightning_embed`, or $LIGHTNING_EMBED_CACHE."""

import os
from pathlib import Path

CACHE = Path(os.environ.get("LIGHTNING_EMBED_CACHE", "~/.cache/lightning_embed")).expanduser()
