"""Hard negatives of a run, with a teacher's scores, mined once and kept in `<out>/mined`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from omegaconf import DictConfig

from lightning_embed.config.values import build_options
from lightning_embed.data import EmbeddingDataset
from lightning_embed.data.datamodule import prompts_of
from lightning_embed.data.mining import mine, read_mined, score
from lightning_embed.data.mining_options import MiningOptions
from lightning_embed.data.row_groups import Rows
from lightning_embed.encoder import Encoder
from lightning_embed.experts import Expert
from lightning_embed.experts.joint import Joint
from lightning_embed.run import build, teacher
from lightning_embed.run.check_signal import check_signal
from lightning_embed.run.fit import fit
from lightning_embed.run.plan import PlannedTraining
from lightning_embed.run.terminal import console
from lightning_embed.storage.cache_dir import CACHE
from lightning_embed.storage.seal import made_once
from lightning_embed.types import BASE


def mined(
    cfg: DictConfig, data: Mapping[str, EmbeddingDataset], base: Encoder, out: Path
) -> dict[str, EmbeddingDataset]:
    """The datasets, with mined hard negatives in those that `mining` names; each is mined once in a round.

    The first round mines with `mining.model` or the base, each further one with a model that was trained on the
    negatives of the round before, in `<out>/mined/round_<number>`. A round that is whole is not run again.
    """
    options: MiningOptions = build_options(MiningOptions, cfg.mining)
    miner = None
    for number in range(1, options.rounds):
        folder = out / "mined" / f"round_{number}"
        found = _round(cfg, data, base, options, out, folder, miner)
        check_signal(cfg, {name: found[name] for name in options.datasets}, base)
        miner = _trained(cfg, found, base, f"round_{number}", folder, out)
    return _round(cfg, data, base, options, out, out / "mined", miner)


def _round(
    cfg: DictConfig,
    data: Mapping[str, EmbeddingDataset],
    base: Encoder,
    options: MiningOptions,
    out: Path,
    folder: Path,
    miner: Path | None,
) -> dict[str, EmbeddingDataset]:
    """The datasets with the negatives and the scores of one round, from files in `folder`."""
    result = dict(data)
    for name in options.datasets:
        dataset, file = data[name], folder / f"{name}.jsonl"
        assert dataset.train is not None, "see check_rows"
        work = _Work(cfg, dataset, base, options, out, miner)
        rows = _made(folder / f"{name}-unscored.jsonl" if options.scores else file, dataset.train, work.mine)
        result[name] = replace(dataset, train=_made(file, rows, work.score) if options.scores else rows)
    return result


def _made(file: Path, rows: Rows, make: Callable[[Rows, Path], object]) -> Rows:
    """The rows of a file, which is made from `rows` where it is missing or broken."""
    with made_once(file) as is_missing:  # the other ranks wait for the first
        if is_missing:
            if file.exists():
                console.print(f"{file} is not what mining wrote. Mining again.", markup=False, highlight=False)
            make(rows, file)
    return read_mined(rows, file, CACHE)


@dataclass(frozen=True)
class _Work:
    """What mining does for a dataset in a round."""

    cfg: DictConfig
    dataset: EmbeddingDataset
    base: Encoder
    options: MiningOptions
    out: Path
    miner: Path | None  # of an earlier round

    def mine(self, rows: Rows, target: Path) -> None:
        """Write the rows with negatives."""
        console.print(f"mining hard negatives for {rows.name}: {target}")
        prompts, device = prompts_of(self.dataset, self.base), build.device(self.cfg)
        own = {"query_prompt": prompts.query, "document_prompt": prompts.document}
        model: str | Path | None = self.miner
        if model is None and (model := self.options.model) is not None:
            own = {}  # the model's
        if model is None:
            model = self.out / "models" / BASE
            self.base.export(model)  # rank zero may not have finished its own export
        mine(rows, model, self.options, target, **own, seed=self.cfg.seed, device=device)

    def score(self, rows: Rows, target: Path) -> None:
        """Write the rows with scores."""
        console.print(f"scoring the documents of {rows.name} by mining.{self.options.scores}: {target}")
        score(rows, self.options, target, device=build.device(self.cfg))


def _trained(
    cfg: DictConfig, data: Mapping[str, EmbeddingDataset], base: Encoder, name: str, folder: Path, out: Path
) -> Path:
    """The model that is trained on the negatives of a round, as a joint expert of the run."""
    rows = {key: None for key, dataset in data.items() if dataset.train is not None}
    expert = Expert(name, rows, start_path=str(out / "models" / BASE))
    batches = build.datamodule(cfg, data, base, expert, teacher.vectors([cfg], data))
    fit(Joint(), PlannedTraining(expert, batches, cfg), folder)
    return folder / "models" / name
