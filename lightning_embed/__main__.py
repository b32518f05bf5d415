"""`python -m lightning_embed --config-name=train ...`: `train.py` and `merge.py` where there is no such file."""

import sys

from lightning_embed import start

if __name__ == "__main__":
    start.merge() if "--config-name=merge" in sys.argv else start.train()
