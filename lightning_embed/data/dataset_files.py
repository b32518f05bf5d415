"""Locations of the parts of a dataset: named by its options, found in its folder, or on the hub."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from errno import EACCES, ENAMETOOLONG, EPERM
from functools import cached_property
from pathlib import Path
from typing import Any

from lightning_embed.data.beir import of_qrels
from lightning_embed.data.corpus import Corpus, texts_file
from lightning_embed.data.eval_sets import beir_qrels, folder_of, from_rows, lacks, qrels_file, read_retrieval
from lightning_embed.data.file_access import ROWS, SUFFIXES, exists, readable
from lightning_embed.data.options import DatasetOptions
from lightning_embed.data.part_files import NAMES, found_in, is_pattern, listed, named, rows_in
from lightning_embed.data.readers import read_source
from lightning_embed.data.row_groups import Rows
from lightning_embed.data.sample_folder import sample_folder
from lightning_embed.data.sources import (
    Source,
    is_in_memory,
    is_saved,
    joined,
    of_file,
    of_hub,
    of_memory,
    of_saved,
    saved_files,
)
from lightning_embed.errors import DataError
from lightning_embed.storage.remote import answering, as_path, is_remote
from lightning_embed.types import EvalSet, LabelSet, RetrievalSet, StsSet, Task

_PARTS = ("train", "dev", "test")
_OF_DATASETS = ("dataset_dict.json", "dataset_info.json", "dataset_infos.json", "state.json")  # of save_to_disk


@dataclass(frozen=True)
class Files:
    """The train, dev and test rows of a dataset, named by its options or found in its folder."""

    name: str
    options: DatasetOptions
    cache: Path

    @cached_property
    def folder(self) -> Path | None:
        """The dataset's folder; None: files, rows in memory, or a dataset on the hub."""
        path = self.options.path
        if path is None:
            return Path()
        if not isinstance(path, (str, int)):
            return None
        if str(path).startswith("sample:"):
            return sample_folder(self.cache) / str(path).removeprefix("sample:")
        place = as_path(str(path))
        is_file = is_remote(str(path)) and str(path).endswith(SUFFIXES)  # a web server has no folders
        return place if not is_file and place.is_dir() else None

    @property
    def is_hub(self) -> bool:
        """Whether `path` can only be the name of a dataset on the hub."""
        path = self.options.path
        if not isinstance(path, str) or self.folder is not None or path.endswith(SUFFIXES) or is_remote(path):
            return False
        if exists(as_path(path)):
            with readable(as_path(path), "a folder, or a file of rows"):
                pass
            raise DataError(f"{self.name}: {path} is no file of rows: expected {ROWS}. Convert it.")
        if is_pattern(path):
            return False
        if path.startswith((".", "/", "~", "file:")) or path.count("/") > 1:
            raise DataError(
                f"{self.name}: no folder {path}. Give a folder, a file of rows, or the name of a dataset on the hub."
            )
        return True

    def read(self, part: str) -> Rows | RetrievalSet | None:
        """The rows of a part, or its corpus, queries and judgements; None if it does not exist."""
        try:
            with self._reaching():
                judged = None if part == "train" else self.retrieval_qrels(part)
                return self._rows(part) if judged is None else read_retrieval(judged)
        except OSError as error:
            if error.errno not in (EACCES, EPERM, ENAMETOOLONG):  # others are of the cache, such as a full disk
                raise
            raise DataError(
                f"{self.name}: {error.filename}: {error.strerror}. Change its path, or permissions."
            ) from None

    def files(self, part: str) -> list[Path]:
        """The files that a part is read from."""
        if self._is_in_memory(part):
            return []
        with self._reaching():
            found = [file for place in self.places(part) for file in self._files_of(place, part)]
            return [*found, self.corpus.file] if found and self.corpus is not None else found

    def unread(self) -> list[str]:
        """Names of files of data in the dataset's folder that no part is read from."""
        if self.folder is None or self.options.path is None:
            return []
        read = {*_OF_DATASETS, *(file.name for part in _PARTS for file in self.files(part))}
        return sorted(name for name in self._listing if name.endswith(SUFFIXES) and name not in read)

    @property
    def in_words(self) -> str:
        """What there is, for the message that no part is found in it."""
        path = self.options.path
        if path is None:
            return "its files"
        if is_in_memory(path):
            keys = f" with the keys {', '.join(map(repr, path))}" if isinstance(path, Mapping) else ""
            return f"its rows in memory{keys}. Expected train, dev or test"
        if not (there := [name for name in self._listing if not name.startswith(".")]):
            return str(path)
        shown = ", ".join(there[:5]) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
        return f"{path}, which has {shown}. Name its files train.jsonl, test.csv ..., or give train: <file or pattern>"

    def places(self, part: str) -> list[Path]:
        """The files, or the folder, of a part; none if it does not exist."""
        given, path = getattr(self.options, part), self.options.path
        if given is not None:
            return named(given, self.folder or Path(), f"{self.name}: no {part} file")
        if path is None or (self.folder is None and part != "train"):
            return []
        if self.folder is not None:
            return self._in_folder(self.folder, part)
        is_one = isinstance(path, (str, int)) and not is_pattern(str(path))
        return [as_path(str(path))] if is_one else named(path, Path(), f"{self.name}: no file")

    def retrieval_qrels(self, part: str) -> Path | None:
        """The judgements of a part that is a folder with corpus, queries and qrels."""
        if self.options.task is not Task.retrieval or self._is_in_memory(part) or self.is_hub:
            return None
        places = self.places(part)
        if len(places) != 1 or not _is_folder(places[0]) or is_saved(places[0]):
            return None
        if (file := qrels_file(places[0], part)) is None and not rows_in(places[0]):
            raise DataError(
                f"{self.name}: expected corpus.jsonl, queries.jsonl and qrels.tsv (or qrels/{part}.tsv) in {places[0]}."
            )
        return file

    @cached_property
    def corpus(self) -> Corpus | None:
        """The documents whose ids the rows have; None: the rows have texts."""
        if self.options.corpus is None:
            return None
        (file,) = named(self.options.corpus, self.folder or Path(), f"{self.name}: no corpus file")
        return Corpus(file, self.cache)

    @cached_property
    def _listing(self) -> Mapping[str, Path]:
        return listed(self.folder) if self.folder is not None else {}

    def _in_folder(self, folder: Path, part: str) -> list[Path]:
        if is_saved(folder):
            return [folder] if part == "train" else []
        is_judged = part == "test" or (part == "dev" and exists(beir_qrels(folder, part)))
        if is_judged and qrels_file(folder, part) is not None:
            return [folder]
        found = found_in(folder, self._listing, part)
        return [folder] if not found and part == "train" and self._has_train_qrels(folder) else found

    def _has_train_qrels(self, folder: Path) -> bool:
        return self.options.task is Task.retrieval and exists(beir_qrels(folder, "train"))

    def _rows(self, part: str) -> Rows | None:
        source = self._source(part)
        if source is None:
            return None
        return Rows(self.name, self.options, read_source(source, self.options, self.cache, self.corpus))

    def _source(self, part: str) -> Source | None:
        if self._is_in_memory(part):
            return self._in_memory(part)
        if self.is_hub:
            split: str | None = getattr(self.options, part) or ("train" if part == "train" else None)
            options = self.options
            return None if split is None else of_hub(options.path, options.subset, split, options.revision)
        found = [self._source_of(place, part) for place in self.places(part)]
        sources = [source for source in found if source is not None]
        return joined(sources) if sources else None

    def _source_of(self, place: Path, part: str) -> Source | None:
        if not _is_folder(place):
            return of_file(place)
        if is_saved(place):
            return of_saved(place)
        if part == "train" and self._has_train_qrels(place):
            return of_qrels(beir_qrels(place, part), place, self.cache)
        if rows := rows_in(place):
            return joined([of_file(file) for file in rows])
        is_needed = part == "train" or getattr(self.options, part) is not None
        return of_file(place) if is_needed else None  # which refuses it

    def _files_of(self, place: Path, part: str) -> list[Path]:
        if not _is_folder(place):
            return [place]
        if is_saved(place):
            return saved_files(place)
        if part == "train" and self._has_train_qrels(place):
            qrels: Path | None = beir_qrels(place, part)
        else:
            qrels = self.retrieval_qrels(part) if part != "train" else None
        if qrels is None:
            return rows_in(place)
        folder = folder_of(qrels)
        return [texts_file(folder, "corpus"), texts_file(folder, "queries"), qrels]

    def _is_in_memory(self, part: str) -> bool:
        """Whether the rows of a part are in memory, or it has none beside rows in memory."""
        given, path = getattr(self.options, part), self.options.path
        is_key = given is None or (isinstance(path, Mapping) and isinstance(given, str) and given in path)
        return is_in_memory(given) or (is_key and is_in_memory(path))

    def _in_memory(self, part: str) -> Source | None:
        rows, path = getattr(self.options, part), self.options.path
        if not is_in_memory(rows) and isinstance(path, Mapping):  # rows by part
            names = NAMES[part] if rows is None else (rows,)
            rows = next((path[name] for name in names if name in path), None)
        elif rows is None and part == "train":
            rows = path
        return None if rows is None else of_memory(f"{self.name}: {part}", rows)

    def _reaching(self) -> AbstractContextManager[None]:
        """One sentence for whatever a remote file system raises."""
        options = self.options
        places = (options.path, options.train, options.dev, options.test, options.corpus)
        remote = [each for place in places for each in _texts(place) if is_remote(each)]
        return answering(remote[0]) if remote else nullcontext()

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
        lengths = self.options.query_length, self.options.document_length
        return EvalSet(self.name, self.options.task, part, in_domain, content, *lengths)


def _is_folder(path: Path) -> bool:
    """Whether a path is a folder, and no folder with the name of a file of rows."""
    return not path.name.endswith(SUFFIXES) and path.is_dir()


def _texts(place: Any) -> list[str]:
    return [each for each in (place if isinstance(place, (list, tuple)) else [place]) if isinstance(each, str)]
