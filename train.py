"""Train experts, merge them, measure them: `python train.py --help`."""

from lightning_embed.cli.entry import train

if __name__ == "__main__":
    train()
