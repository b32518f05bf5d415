"""The teacher of a run: its embeddings of all texts, computed once by all ranks, and kept in the cache folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from omegaconf import DictConfig
from torch import Tensor

from lightning_embed.config.content import model_content
from lightning_embed.config.values import build_options
from lightning_embed.data import EmbeddingDataset
from lightning_embed.data.collator import Asked, RowPrompts
from lightning_embed.data.row_groups import Rows
from lightning_embed.data.teacher import TeacherVectors, keys_of, texts_of_all, write_reduced, write_vectors
from lightning_embed.data.teacher_options import TeacherOptions
from lightning_embed.encoder import Encoder
from lightning_embed.encoder.manifest import read_manifest
from lightning_embed.encoder.options import EncoderOptions
from lightning_embed.errors import ConfigError
from lightning_embed.loss import Loss
from lightning_embed.loss.choice import loss_of
from lightning_embed.run import build, service
from lightning_embed.run.terminal import console
from lightning_embed.runtime import distributed
from lightning_embed.storage.cache_dir import CACHE
from lightning_embed.storage.checksum import digest
from lightning_embed.storage.seal import is_whole, made_once
from lightning_embed.types import Task


@dataclass(frozen=True)
class _Open:
    """Opens the teacher, on this rank or another one: see `service`."""

    options: EncoderOptions
    device: str

    def __call__(self, path: Path) -> Encoder:
        return service.shared(Encoder(self.options).to(self.device), self, path)


def refuse_unused(cfgs: Sequence[DictConfig], data: Mapping[str, EmbeddingDataset]) -> None:
    """Refuse a teacher that no loss of these trainings learns from.

    Raises:
        ConfigError: with its path.
    """
    path = cfgs[0].teacher.path
    if path is not None and not _taught(cfgs, data):
        raise ConfigError(
            f"teacher.path={path}: expected a loss that learns from a teacher, got none. Give "
            "loss@retrieval_loss=distill_embeddings or gist, or teacher=none."
        )


def dim_of(cfg: DictConfig, losses: Mapping[str, Loss], base_dim: int) -> int | None:
    """Length of the teacher's embeddings as the losses get them; None: no loss needs a teacher.

    Raises:
        ConfigError: a loss needs a teacher and there is none, or `dim` is more than it has.
    """
    options: TeacherOptions = build_options(TeacherOptions, cfg.teacher)
    needed = [name for name, loss in losses.items() if loss.needs_teacher_embeddings]
    if not needed:
        return None
    if options.path is None:
        raise ConfigError(
            f"The loss of {needed[0]} learns from a teacher's embeddings, and there is no teacher. Give teacher=base "
            "(the base whole), or teacher=model teacher.path=<directory or hub name>."
        )
    own = Encoder(_encoder_options(options)).dim
    if options.dim is not None and options.dim > own:
        raise ConfigError(
            f"teacher.dim: expected at most the {own} dimensions of {options.path}, got {options.dim}. Lower it (the "
            f"encoder has {base_dim}), or leave it out."
        )
    return options.dim or own


def vectors(cfgs: Sequence[DictConfig], data: Mapping[str, EmbeddingDataset]) -> TeacherVectors | None:
    """The teacher's embeddings of the train and dev texts whose losses need them; None: no loss does.

    All ranks call it. They are computed once for a teacher and a set of texts, in float32, and shared by all runs.

    Args:
        cfgs: of the trainings, which may have losses of their own.
        data: the datasets.
    """
    cfg, taught = cfgs[0], _taught(cfgs, data)
    if not taught:
        return None
    options: TeacherOptions = build_options(TeacherOptions, cfg.teacher)
    assert options.path is not None, "see dim_of"
    prompts = {name: _prompts(options, name, each.options.task) for name, each in taught.items()}
    parts = [(rows, prompts[name]) for name, each in taught.items() for rows in _rows(each)]
    keys = keys_of(texts_of_all(parts))
    model = [model_content(options.path, options.revision), options.max_length]
    file = CACHE / "teacher" / f"{digest([*model, digest(keys.tobytes().hex())])}.npy"
    opener = _Open(_encoder_options(options), build.device(cfg))

    def make(target: Path) -> None:
        console.print(f"embedding {len(keys):,} texts by the teacher {options.path}: {target}", markup=False)
        teacher = opener(Path(str(options.path)))
        write_vectors(keys, texts_of_all(parts), partial(_encode, teacher), teacher.dim, target)

    _made(file, make)
    if options.dim is not None:
        file, whole = file.with_name(f"{file.stem}-{options.dim}.npy"), file
        _made(file, partial(write_reduced, whole, options.dim))
    return TeacherVectors(keys, file, prompts)


def _taught(cfgs: Sequence[DictConfig], data: Mapping[str, EmbeddingDataset]) -> dict[str, EmbeddingDataset]:
    """The datasets with train rows whose loss, in one of the trainings, learns from a teacher."""
    trained = {name: each.options for name, each in data.items() if each.train is not None}
    chosen = [build.losses(cfg, trained) for cfg in cfgs]
    return {
        name: data[name]
        for name, options in trained.items()
        if any(loss_of(losses, name, options.task).needs_teacher_embeddings for losses in chosen)
    }


def _encoder_options(options: TeacherOptions) -> EncoderOptions:
    assert options.path is not None
    return EncoderOptions(options.path, options.revision, prompts=options.prompts, max_length=options.max_length)


def _prompts(options: TeacherOptions, dataset: str, task: Task) -> RowPrompts:
    """The teacher's own prompts; except in retrieval, both sides have that of queries."""
    known = read_manifest(str(options.path), options.revision).prompts | options.prompts
    query = known.choose(task, "query", dataset)
    return RowPrompts(query, known.choose(task, "document", dataset) if task is Task.retrieval else query)


def _rows(dataset: EmbeddingDataset) -> Iterator[Rows]:
    yield from (rows for rows in (dataset.train, dataset.dev) if rows is not None)


def _encode(teacher: Encoder, asked: Sequence[Asked]) -> Float[Tensor, "texts dim"]:
    """The embeddings of texts, those of each length together."""
    result = torch.empty(len(asked), teacher.dim)
    for length in {each.max_length for each in asked}:
        places = [place for place, each in enumerate(asked) if each.max_length == length]
        texts, prompts = [asked[place].text for place in places], [asked[place].prompt for place in places]
        result[places] = teacher.encode(texts, prompt=prompts, max_length=length, normalize_embeddings=True)
    return result


def _made(file: Path, make: Callable[[Path], None]) -> None:
    """Make a file once: the first rank leads, and the others embed their share of the texts meanwhile."""
    if distributed.of_first(float(is_whole(file))):
        _made_here(file, make)
        return
    if distributed.rank() == 0:
        with service.lead():
            _made_here(file, make)
    else:
        service.serve()
        _made_here(file, make)  # on a machine with a cache of its own


def _made_here(file: Path, make: Callable[[Path], None]) -> None:
    with made_once(file) as is_missing:
        if is_missing:
            make(file)
