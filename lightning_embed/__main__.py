"""Entry point of `python -m lightning_embed --config-name=train`, or `merge`: the commands of an installed wheel."""

import re
import sys

from lightning_embed.cli import entry

if __name__ == "__main__":
    entry.merge() if re.search(r"--config-name[= ]merge\b", " ".join(sys.argv)) else entry.train()
