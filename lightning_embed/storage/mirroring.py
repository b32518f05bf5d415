"""The copy of the run that this process leads, made by a thread while the run goes on; see `mirror`."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from lightning_embed.errors import LightningEmbedError
from lightning_embed.storage.mirror import Mirror, TakenOver

logger = logging.getLogger(__name__)


@contextmanager
def of_run(url: str | None, part: str | None = None) -> Iterator[None]:
    """Keep a copy of the run in the block.

    Args:
        url: of the storage; None: no copy, as on all ranks but the first.
        part: the only expert that is trained; None: all.

    Raises:
        CheckpointError: not everything is there when the block has ended.
    """
    global _active
    _active = None if url is None else _Copier(url, part or "run")
    try:
        yield
    except BaseException:
        if _active is not None:  # a signal leaves some seconds, in which its checkpoint can be copied
            _active.save()
        raise
    else:
        if _active is not None:
            _active.end()
    finally:
        _active = None


def fetch(out: Path) -> None:
    """Bring what the copy has into the folder of the run.

    Raises:
        CheckpointError: the storage cannot be read or written, or a file on it is not whole.
    """
    if _active is not None:
        _active.begin(out)


def published() -> None:
    """Something in the folder of the run is whole: copy it. A copy that failed is tried again.

    Raises:
        TakenOver: another machine goes on with this run.
    """
    if _active is not None:
        _active.wake()


class _Copier:
    def __init__(self, url: str, part: str) -> None:
        self._url, self._part = url, part
        self._mirror: Mirror | None = None
        self._thread: Thread | None = None
        self._due, self._is_over = Event(), False
        self._refusal: TakenOver | None = None

    def begin(self, out: Path) -> None:
        mirror = Mirror(self._url, out, self._part)
        number = mirror.fetch()
        self._mirror = mirror
        self._thread = Thread(target=self._work, args=(mirror,), daemon=True, name="mirror")
        self._thread.start()
        if number:
            logger.info("%s files of this run came from %s", number, mirror.url)

    def wake(self) -> None:
        if self._refusal is not None:
            raise self._refusal
        self._due.set()

    def end(self) -> None:
        """Copy what is left, and wait for it."""
        self._stop()
        if self._refusal is not None:
            raise self._refusal
        if self._mirror is not None:
            self._mirror.copy()

    def save(self) -> None:
        """Copy what can be copied after an error or a signal."""
        self._stop()
        if self._mirror is not None and self._refusal is None:
            self._try(self._mirror)

    def _stop(self) -> None:
        self._is_over = True
        self._due.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _work(self, mirror: Mirror) -> None:
        while True:
            self._due.wait()
            self._due.clear()
            if self._is_over:
                return
            self._try(mirror)

    def _try(self, mirror: Mirror) -> None:
        try:
            mirror.copy()
        except TakenOver as error:
            self._refusal = error
        except LightningEmbedError as error:
            logger.warning("%s What is new is copied with the next checkpoint, and at the end.", error)


_active: _Copier | None = None
