"""Before the first training: rows checked against losses, hard negatives mined, and what plans of experts ask."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock
from omegaconf import DictConfig
from rich.console import Console

from lightning_embed.config.values import build_options
from lightning_embed.data import EmbeddingDataset
from lightning_embed.data.datamodule import prompts_of
from lightning_embed.data.mining import mine, read_mined
from lightning_embed.data.options import MiningOptions
from lightning_embed.encoder import Encoder
from lightning_embed.errors import ConfigError
from lightning_embed.experts import Expert
from lightning_embed.experts.joint import Joint
from lightning_embed.loss import Loss
from lightning_embed.run import build
from lightning_embed.run.dataset_affinity import Measured
from lightning_embed.run.fit import fit
from lightning_embed.storage.cache_dir import CACHE
from lightning_embed.types import BASE, Embeddings, LossInput, Task


def check_rows(
    losses: Mapping[Task, Loss], data: Mapping[str, EmbeddingDataset], mined: Collection[str], dim: int
) -> None:
    """Refuse losses that do not fit the encoder, and rows that lack what their loss looks at.

    Raises:
        ConfigError: naming the dataset.
    """
    for loss in losses.values():
        loss(_two_rows(dim))
    for name in mined:
        if data[name].train is None:
            raise ConfigError(f"mining.datasets: {name} has no train rows to mine for.")
    for name, dataset in data.items():
        if (rows := dataset.train) is None:
            continue
        task = dataset.options.task
        loss = losses[task]
        if loss.needs_teacher and not rows.has_teacher:
            raise ConfigError(
                f"{name}: its loss learns from a teacher, and its rows have no positive_scores and negative_scores. "
                "Add them, or choose another loss."
            )
        if loss.needs_negatives(task) and not (rows.has_negatives or (name in mined and rows.options.num_negatives)):
            raise ConfigError(
                f"{name}: its loss compares a row only with its own negatives, of which there are none. Add negatives "
                "(mining=hard), raise num_negatives, or choose another loss (infonce with in_batch=true)."
            )


def _two_rows(dim: int) -> LossInput:
    """The smallest batch that any loss can see."""
    embeddings, column = torch.eye(6, dim), torch.tensor([[2], [3]])
    scores = torch.tensor([[1.0], [0.0]])
    return LossInput(
        embeddings=Embeddings(embeddings, embeddings),
        hashes=torch.arange(6),
        query=torch.arange(2),
        positives=column,
        negatives=column + 2,
        score=scores[:, 0],
        rows=slice(0, 2),
        positive_scores=scores,
        negative_scores=scores,
    )


def mined(
    console: Console, cfg: DictConfig, data: Mapping[str, EmbeddingDataset], base: Encoder, out: Path
) -> dict[str, EmbeddingDataset]:
    """The datasets, those that `mining` names with hard negatives that the base finds; each is mined once."""
    options: MiningOptions = build_options(MiningOptions, cfg.mining)
    result = dict(data)
    for name in options.datasets:
        dataset, file = data[name], out / "mined" / f"{name}.jsonl"
        assert dataset.train is not None, "checked"
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):  # the other ranks wait for the first
            if not file.exists():
                base.export(out / "models" / BASE)  # rank zero may still be at it
                console.print(f"mining hard negatives for {name}: {file}")
                prompts = prompts_of(dataset, base)
                put_before = {"query_prompt": prompts.query, "document_prompt": prompts.document}
                mine(dataset.train, out / "models" / BASE, options, file, **put_before, seed=cfg.seed)
        result[name] = replace(dataset, train=read_mined(dataset.train, file, CACHE))
    return result


def measure(
    console: Console, cfg: DictConfig, data: Mapping[str, EmbeddingDataset], base: Encoder, out: Path
) -> Measured:
    """What a plan may ask, of the rows before mining; the models that it takes are trained like experts, in `<out>/measure`."""
    folder = out / "measure"

    def train(expert: Expert) -> Path:
        if cfg.inspect:
            raise ConfigError(
                "experts.by=loss trains a model per dataset before it can plan: nothing to inspect. Use by=embedding."
            )
        if lacking := [name for name in expert.rows if len(data[name].dev or ()) < 2]:
            raise ConfigError(
                f"experts.by=loss measures dev losses: {', '.join(lacking)} needs a dev file or a dev_share."
            )
        fit(console, cfg, data, Joint(), expert, folder)
        return folder / "models" / expert.name

    def loss_of(model: Path, name: str) -> float:
        own = Expert(name, {name: None})
        encoder = build.encoder(cfg, data.values(), start=model)
        batches = build.datamodule(cfg, dict(data), encoder, own)
        module = build.module(cfg, encoder, [data[name].options.task], own)
        whole = cfg.copy()
        whole.trainer.limit_val_batches = 1.0
        (measured,) = build.trainer(whole, [], folder).validate(module, batches, verbose=False)
        return float(measured[f"dev/loss/{name}"])

    return Measured(base, data, train, loss_of, cfg.seed, None if cfg.inspect else folder / "measure.json")
