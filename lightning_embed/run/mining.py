"""Hard negatives of a run, mined once with the base and kept in `<out>/mined`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig

from lightning_embed.config.values import build_options
from lightning_embed.data import EmbeddingDataset
from lightning_embed.data.datamodule import prompts_of
from lightning_embed.data.mining import mine, read_mined
from lightning_embed.data.options import MiningOptions
from lightning_embed.encoder import Encoder
from lightning_embed.run.terminal import console
from lightning_embed.storage.cache_dir import CACHE
from lightning_embed.storage.seal import made_once
from lightning_embed.types import BASE


def mined(
    cfg: DictConfig, data: Mapping[str, EmbeddingDataset], base: Encoder, out: Path
) -> dict[str, EmbeddingDataset]:
    """The datasets, with mined hard negatives in those that `mining` names; each is mined once."""
    options: MiningOptions = build_options(MiningOptions, cfg.mining)
    result = dict(data)
    for name in options.datasets:
        dataset, file = data[name], out / "mined" / f"{name}.jsonl"
        assert dataset.train is not None, "see check_rows"
        with made_once(file) as is_missing:  # the other ranks wait for the first
            if is_missing:
                if file.exists():
                    console.print(f"{file} is not what mining wrote. Mining again.", markup=False, highlight=False)
                base.export(out / "models" / BASE)  # rank zero may not have finished its own export
                console.print(f"mining hard negatives for {name}: {file}")
                prompts = prompts_of(dataset, base)
                mine(
                    dataset.train,
                    out / "models" / BASE,
                    options,
                    file,
                    query_prompt=prompts.query,
                    document_prompt=prompts.document,
                    seed=cfg.seed,
                )
        result[name] = replace(dataset, train=read_mined(dataset.train, file, CACHE))
    return result
