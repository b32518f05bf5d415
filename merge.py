"""Merge model directories and measure the result: `python merge.py --help`."""

from lightning_embed.start import merge

if __name__ == "__main__":
    merge()
