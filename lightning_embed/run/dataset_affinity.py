"""Measurements of datasets for plans of experts, by the base and by trained models."""

import json
import random
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import (
    Any,
    NotRequired,  # see lightning_embed.types
)

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor
from typing_extensions import TypedDict

from lightning_embed.data import EmbeddingDataset
from lightning_embed.data.datamodule import prompts_of
from lightning_embed.data.row_groups import Rows
from lightning_embed.encoder import Encoder
from lightning_embed.errors import ConfigError
from lightning_embed.experts import Expert
from lightning_embed.experts.joint import Joint
from lightning_embed.run import build, teacher
from lightning_embed.run.fit import fit
from lightning_embed.run.plan import PlannedTraining
from lightning_embed.runtime.seeding import derive_seed
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.json_file import cached_json
from lightning_embed.storage.publish import discard
from lightning_embed.types import JOINT

NUM_ROWS = 100  # of a dataset, as in Self Positioning (2024, arXiv 2410.15035)


class _Kept(TypedDict):
    embeddings: NotRequired[dict[str, list[float]]]
    losses: NotRequired[dict[str, dict[str, float]]]


@dataclass(frozen=True)
class DatasetAffinity:
    """The `Measure` of a run: each result is computed on first use, and kept.

    `save` writes the results to a file, so that the same command has the same plan again: on a different machine the
    last digits of an embedding may differ.

    Args:
        base: model that all experts start from.
        datasets: datasets of the run; those without train rows are ignored.
        train: trains an expert, unless it exists, and returns the directory of the model.
        loss_of: gives the dev loss of the model in a directory on a dataset.
        seed: seed for the choice of the rows to embed.
        file: JSON file; None: the results are kept only in memory.
    """

    base: Encoder
    datasets: Mapping[str, EmbeddingDataset]
    train: Callable[[Expert], Path]
    loss_of: Callable[[Path, str], float]
    seed: int = 0
    file: Path | None = None

    def embeddings(self) -> Mapping[str, Float[Tensor, " dims"]]:
        """Of each dataset, the mean embedding of 100 queries, concatenated with that of a positive of each."""
        kept = self._kept("embeddings", lambda: {n: self._embedding(rows).tolist() for n, rows in self._rows.items()})
        return {name: torch.tensor(values) for name, values in kept.items()}

    def losses(self) -> Mapping[str, Mapping[str, float]]:
        """Dev losses of trained models, model -> dataset -> loss: one model per dataset, and one named joint.

        Raises:
            ConfigError: a dataset has the name joint.
        """
        losses: Mapping[str, Mapping[str, float]] = self._kept("losses", self._losses)
        return losses

    def save(self) -> None:
        """Write the results to `file`, if any exist."""
        if self.file is not None and self._results:
            discard(self.file)
            write_whole(self.file, json.dumps(self._results))

    @property
    def _rows(self) -> Mapping[str, Rows]:
        return {name: data.train for name, data in self.datasets.items() if data.train is not None}

    def _embedding(self, rows: Rows) -> Float[Tensor, " dims"]:
        draw = random.Random(derive_seed(self.seed, "measure", rows.name))
        chosen = draw.sample(range(len(rows)), min(len(rows), NUM_ROWS))
        groups = [rows.group(row, self.seed) for row in chosen]
        prompts, options = prompts_of(self.datasets[rows.name], self.base), rows.options
        queries = self.base.encode(
            [group.query for group in groups],
            prompt=[prompts.of_query(group) for group in groups],
            max_length=options.query_length,
        )
        documents = self.base.encode(
            [group.positives[0] for group in groups],
            prompt=[prompts.of_documents(group.positive_prompts, len(group.positives))[0] for group in groups],
            max_length=options.document_length,
        )
        return torch.cat([queries.mean(0), documents.mean(0)])

    def _losses(self) -> dict[str, dict[str, float]]:
        names = list(self._rows)
        if JOINT in names:
            raise ConfigError(f"A dataset cannot have the name {JOINT!r}, that of the joint model. Rename the dataset.")
        experts = [Expert(JOINT, dict.fromkeys(names)), *(Expert(name, {name: None}) for name in names)]
        models = {expert.name: self.train(expert) for expert in experts}
        return {model: {name: self.loss_of(path, name) for name in names} for model, path in models.items()}

    def _kept(self, kind: str, compute: Callable[[], Any]) -> Any:
        if kind not in self._results:
            self._results[kind] = compute()
        return self._results[kind]

    @cached_property
    def _results(self) -> dict[str, Any]:
        return {} if self.file is None else kept_results(self.file, set(self._rows))


def kept_results(file: Path, names: Set[str]) -> dict[str, Any]:
    """The results in a file that are of the datasets with these names; others are computed again."""
    kept: dict[str, Any] = cached_json(file, _Kept) or {}
    of_names: dict[str, Callable[[Mapping[str, Any]], bool]] = {
        "embeddings": lambda found: found.keys() == names and len(set(map(len, found.values()))) == 1,
        "losses": lambda found: found.keys() == {JOINT, *names} and all(of.keys() == names for of in found.values()),
    }
    return {kind: found for kind, found in kept.items() if kind in of_names and of_names[kind](found)}


def affinity(cfg: DictConfig, data: Mapping[str, EmbeddingDataset], base: Encoder, out: Path) -> DatasetAffinity:
    """The measurements of a run, on the rows before mining; their models are trained in `<out>/measure`."""
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
        batches = build.datamodule(cfg, data, base, expert, teacher.vectors([cfg], data))
        fit(Joint(), PlannedTraining(expert, batches, cfg), folder)
        return folder / "models" / expert.name

    def loss_of(model: Path, name: str) -> float:
        own = Expert(name, {name: None})
        encoder = build.encoder(cfg, data.values(), start=model)
        batches = build.datamodule(cfg, data, encoder, own)
        module = build.module(cfg, encoder, {name: data[name].options}, own)
        whole = cfg.copy()
        whole.trainer.limit_val_batches = 1.0
        (measured,) = build.trainer(whole, [], folder).validate(module, batches, verbose=False)
        return float(measured[f"dev/loss/{name}"])

    return DatasetAffinity(base, data, train, loss_of, cfg.seed, None if cfg.inspect else folder / "measure.json")
