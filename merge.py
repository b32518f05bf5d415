"""Merge model directories and measure the result: `python merge.py --help`."""

from lightning_embed.cli.entry import merge

if __name__ == "__main__":
    merge()
