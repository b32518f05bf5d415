"""The copy of a run while it goes on: its thread, its warnings, its end."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_embed.errors import CheckpointError
from lightning_embed.storage import mirroring
from lightning_embed.storage.atomic import write_whole
from lightning_embed.storage.mirror import Mirror, TakenOver


@pytest.fixture
def url(tmp_path: Path) -> str:
    (tmp_path / "storage").mkdir()
    return f"file://{tmp_path}/storage"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "run"


def _wait(until: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not until():
        assert time.monotonic() < end
        time.sleep(0.01)


def _stored(tmp_path: Path) -> set[str]:
    return {path.name.split(".")[0] for path in (tmp_path / "storage/run/run").rglob("*") if path.is_file()}


def test_nothing_without_a_mirror(out: Path) -> None:
    with mirroring.of_run(None):
        mirroring.fetch(out)
        mirroring.published()
    assert not out.exists()


def test_what_is_published_is_copied_in_the_background(url: str, out: Path, tmp_path: Path) -> None:
    with mirroring.of_run(url):
        mirroring.fetch(out)
        write_whole(out / "a.json", "a")
        mirroring.published()
        _wait(lambda: _stored(tmp_path) == {"a"})
        write_whole(out / "b.json", "b")
    assert _stored(tmp_path) == {"a", "b"}, "the end copies what is left"


def test_after_a_signal_or_an_error_too(url: str, out: Path, tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run(url, out, stop)
    assert _stored(tmp_path) == {"a"}


def test_a_failure_is_a_warning_and_is_made_up_for(
    url: str, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with mirroring.of_run(url):
        mirroring.fetch(out)
        write_whole(out / "a.json", "a")
        with monkeypatch.context() as patch:
            patch.setattr(Mirror, "_put", _refuse)
            mirroring.published()
            _wait(lambda: caplog.messages)
        assert "cannot be read and written (no network)" in caplog.messages[0]
        assert caplog.messages[0].endswith("What is new is copied with the next checkpoint, and at the end.")
        mirroring.published()
        _wait(lambda: _stored(tmp_path) == {"a"})


def test_what_is_not_there_at_the_end_fails_the_run(url: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match=r"no network.*the same command goes on\.$"):
        _run(url, out, lambda: monkeypatch.setattr(Mirror, "_put", _refuse))


def test_a_run_that_another_machine_took_stops(url: str, out: Path, tmp_path: Path) -> None:
    def take_over() -> None:
        Mirror(url, tmp_path / "elsewhere" / "run", "run").fetch()
        _wait(mirroring.published)

    with pytest.raises(TakenOver, match="goes on with this run"):
        _run(url, out, take_over)


def _run(url: str, out: Path, then: Callable[[], object]) -> None:
    """A run that makes a file."""
    with mirroring.of_run(url):
        mirroring.fetch(out)
        write_whole(out / "a.json", "a")
        then()


def _refuse(*_: object) -> None:
    raise OSError("no network")
