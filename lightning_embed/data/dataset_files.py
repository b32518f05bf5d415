"""Locations of the parts of a dataset: named by its options, found in its folder, or on the hub."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from filelock import FileLock

from lightning_embed.data.eval_sets import beir_qrels, from_rows, lacks, qrels_file, read_retrieval
from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.readers import SUFFIXES, read_hub, read_rows
from lightning_embed.data.row_groups import Rows
from lightning_embed.errors import DataError
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.checksum import model_digests, sha256
from lightning_embed.storage.code_fingerprint import fingerprint
from lightning_embed.storage.json_file import cached_json
from lightning_embed.storage.publish import discard, make_folder, published_folder
from lightning_embed.types import EvalSet, LabelSet, RetrievalSet, StsSet, Task

_DIGESTS = "sha256.json"


def _sample(cache: Path) -> Path:
    """The folder of the embedded data set, generated on first use, and again after a change of its generator."""
    from lightning_embed.data import sample

    folder = cache / f"sample-{fingerprint(Path(sample.__file__).parent)}"
    if not _is_whole(folder):
        make_folder(cache)
        with FileLock(cache / "sample.lock"):  # the other processes wait for the first
            if not _is_whole(folder):
                discard(folder)
                with published_folder(folder) as partial:
                    sample.write_sample(partial)
                    write_whole(partial / _DIGESTS, json.dumps(model_digests(partial)))
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether all files of the embedded data set are as they were generated."""
    expected: dict[str, str] = cached_json(folder / _DIGESTS, dict[str, str]) or {}
    try:
        return bool(expected) and all(sha256(folder / name) == digest for name, digest in expected.items())
    except OSError:
        return False


@dataclass(frozen=True)
class Files:
    """The train, dev and test rows of a dataset, named by its options or found in its folder."""

    name: str
    options: DatasetOptions
    cache: Path

    @cached_property
    def folder(self) -> Path | None:
        """The dataset's folder; None: a single file, or a dataset on the hub."""
        path = self.options.path
        if path is None:
            return Path()
        if path.startswith("sample:"):
            return _sample(self.cache) / path.removeprefix("sample:")
        return Path(path) if Path(path).is_dir() else None

    @property
    def is_hub(self) -> bool:
        """Whether `path` can only be the name of a dataset on the hub."""
        path = self.options.path
        if path is None or self.folder is not None or path.endswith(SUFFIXES):
            return False
        if Path(path).is_file():
            raise DataError(f"{self.name}: {path} is no file of rows: expected {', '.join(SUFFIXES)}. Convert it.")
        if path.startswith((".", "/", "~")) or path.count("/") > 1:
            raise DataError(
                f"{self.name}: no folder {path}. Give a folder, a file of rows, or the name of a dataset on the hub."
            )
        return True

    def find(self, part: str) -> Path | None:
        """The file or folder of a part; None if it does not exist."""
        given: str | None = getattr(self.options, part)
        if given is not None:
            path = (self.folder or Path()) / given
            if not path.exists():
                raise DataError(f"{self.name}: no {part} file {path}.")
            return path
        if self.folder is None:
            return Path(self.options.path or "") if part == "train" else None
        if self.options.path is None:
            return None
        judged = part == "test" or (part == "dev" and beir_qrels(self.folder, part).is_file())
        if judged and qrels_file(self.folder, part) is not None:
            return self.folder
        return next((f for s in (*SUFFIXES, "") if (f := self.folder / f"{part}{s}").exists()), None)

    def files(self, part: str) -> list[Path]:
        """The files that a part is read from."""
        if (qrels := self.retrieval_qrels(part)) is not None:
            folder = qrels.parent.parent if qrels.parent.name == "qrels" else qrels.parent
            return [folder / "corpus.jsonl", folder / "queries.jsonl", qrels]
        path = self.find(part)
        return [] if path is None or path.is_dir() else [path]

    def rows(self, part: str) -> Rows | None:
        """The rows of a part; None if it does not exist."""
        if self.is_hub:
            return self._hub(part)
        path = self.find(part)
        if path is None or (path.is_dir() and not path.name.endswith(SUFFIXES) and part != "train"):
            return None
        return Rows(self.name, self.options, read_rows(path, self.options, self.cache))

    def _hub(self, part: str) -> Rows | None:
        split: str | None = getattr(self.options, part)
        if split is None and part != "train":
            return None
        assert self.options.path is not None
        return Rows(self.name, self.options, read_hub(self.options.path, split or "train", self.options, self.cache))

    def retrieval_qrels(self, part: str) -> Path | None:
        """The judgements of a part that is a folder with corpus, queries and qrels."""
        path = None if self.is_hub or self.options.task is not Task.retrieval else self.find(part)
        if path is None or not path.is_dir():
            return None
        if (file := qrels_file(path, part)) is None:
            raise DataError(
                f"{self.name}: expected corpus.jsonl, queries.jsonl and qrels.tsv (or qrels/{part}.tsv) in {path}."
            )
        return file

    def eval_sets(self, train: Rows | None, dev: Rows | None) -> Iterator[EvalSet]:
        """The dev and test sets that exist."""
        in_domain = self.options.in_domain and train is not None
        for part, rows in (("dev", dev), ("test", self.rows("test"))):
            content: RetrievalSet | StsSet | LabelSet
            if file := self.retrieval_qrels(part):
                content = read_retrieval(file)
            elif rows is not None:
                content = from_rows(rows.table, self.options.task, train.table if train else None)
            else:
                continue
            if lacking := lacks(content, self.options.task):
                raise DataError(f"{self.name}: its {part} set cannot be measured: it has {lacking}.")
            yield EvalSet(self.name, self.options.task, part, in_domain, content)
