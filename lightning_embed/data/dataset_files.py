"""Locations of the parts of a dataset: named by its options, found in its folder, or on the hub."""

from dataclasses import dataclass
from errno import EACCES, ENAMETOOLONG, EPERM
from functools import cached_property
from pathlib import Path

from filelock import FileLock

from lightning_embed.data.eval_sets import beir_qrels, from_rows, lacks, qrels_file, read_retrieval
from lightning_embed.data.file_access import SUFFIXES, exists, readable
from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.readers import read_hub, read_rows
from lightning_embed.data.row_groups import Rows
from lightning_embed.errors import DataError
from lightning_embed.storage.code_fingerprint import fingerprint
from lightning_embed.storage.publish import discard, make_folder, published_folder
from lightning_embed.storage.seal import is_whole_folder, seal_folder
from lightning_embed.types import EvalSet, LabelSet, RetrievalSet, StsSet, Task

_PARTS = ("train", "dev", "test")
_DATA = (*SUFFIXES, ".json", ".csv", ".tsv")


def _sample(cache: Path) -> Path:
    """The folder of the embedded data set, generated on first use, and again after a change of its generator."""
    from lightning_embed.data import sample

    folder = cache / f"sample-{fingerprint(Path(sample.__file__).parent)}"
    if not is_whole_folder(folder):
        make_folder(cache)
        with FileLock(cache / "sample.lock"):  # the other processes wait for the first
            if not is_whole_folder(folder):
                discard(folder)
                with published_folder(folder) as partial:
                    sample.write_sample(partial)
                    seal_folder(partial)
    return folder


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
        if exists(Path(path)):
            with readable(Path(path), "a folder, or a file of rows"):
                pass
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
            if not exists(path):
                raise DataError(f"{self.name}: no {part} file {path}.")
            return path
        if self.folder is None:
            return Path(self.options.path or "") if part == "train" else None
        if self.options.path is None:
            return None
        judged = part == "test" or (part == "dev" and exists(beir_qrels(self.folder, part)))
        if judged and qrels_file(self.folder, part) is not None:
            return self.folder
        return next((f for s in (*SUFFIXES, "") if exists(f := self.folder / f"{part}{s}")), None)

    def files(self, part: str) -> list[Path]:
        """The files that a part is read from."""
        if (qrels := self.retrieval_qrels(part)) is not None:
            folder = qrels.parent.parent if qrels.parent.name == "qrels" else qrels.parent
            return [folder / "corpus.jsonl", folder / "queries.jsonl", qrels]
        path = self.find(part)
        return [] if path is None or path.is_dir() else [path]

    def read(self, part: str) -> Rows | RetrievalSet | None:
        """The rows of a part, or its corpus, queries and judgements; None if it does not exist."""
        try:
            judged = None if part == "train" else self.retrieval_qrels(part)
            return self._rows(part) if judged is None else read_retrieval(judged)
        except OSError as error:
            if error.errno not in (EACCES, EPERM, ENAMETOOLONG):  # others are of the cache, such as a full disk
                raise
            raise DataError(
                f"{self.name}: {error.filename}: {error.strerror}. Change its path, or permissions."
            ) from None

    def unread(self) -> list[str]:
        """Names of files of data in the dataset's folder that no part is read from."""
        if self.folder is None or self.options.path is None:
            return []
        read = {file.name for part in _PARTS for file in self.files(part)}
        return sorted(f.name for f in self.folder.iterdir() if f.name.endswith(_DATA) and f.name not in read)

    def _rows(self, part: str) -> Rows | None:
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
        if path is None or not path.is_dir() or path.name.endswith(SUFFIXES):
            return None
        if (file := qrels_file(path, part)) is None:
            raise DataError(
                f"{self.name}: expected corpus.jsonl, queries.jsonl and qrels.tsv (or qrels/{part}.tsv) in {path}."
            )
        return file

    def eval_set(
        self, part: str, read: Rows | RetrievalSet | None, train: Rows | None, in_domain: bool
    ) -> EvalSet | None:
        """The dev or test set of what was read; None: of nothing.

        Raises:
            DataError: a set whose metric is undefined.
        """
        if read is None:
            return None
        content: RetrievalSet | StsSet | LabelSet
        if isinstance(read, RetrievalSet):
            content = read
        else:
            content = from_rows(read.table, self.options.task, train.table if train else None)
        if lacking := lacks(content, self.options.task):
            raise DataError(f"{self.name}: its {part} set cannot be measured: it has {lacking}.")
        return EvalSet(self.name, self.options.task, part, in_domain, content)
