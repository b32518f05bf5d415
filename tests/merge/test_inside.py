"""Paths that a model directory names stay in it; the hub's cache is the one exception."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_embed.errors import CheckpointError
from lightning_embed.merge.checkpoint.inside import inside


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "models/law"
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "1_Pooling/config.json").write_text("{}")
    (tmp_path / "secret").write_text("key")
    (tmp_path / "models/law-2").mkdir()
    return folder


@pytest.mark.parametrize(
    "name", ["", ".", "config.json", "./config.json", "1_Pooling", "1_Pooling/config.json", "not yet", "a..b", "größe"]
)
def test_names_in_the_directory(name: str, model: Path) -> None:
    assert inside(model, name) == model / name


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("..", "leads out"), ("../secret", "leads out"), ("1_Pooling/../../law-2", "leads out"), ("/etc/passwd", "absolute"),
        ("//etc", "absolute"), ("a\0b", "zero byte"), ("a" * 256, "too long"), ("ä" * 128, "too long"),
        ("a/" * 2000, "too long"), ("\ud800", "not valid Unicode"), ("1_Pooling/..", "leads out"),
    ],
)  # fmt: skip
def test_names_that_lead_out(name: str, reason: str, model: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"^{model}: expected the name of a file in it, found .*{reason}"):
        inside(model, name)


LINKS: dict[str, tuple[str, str]] = {
    "a file outside": ("../../secret", "leads out of its model, to .*secret"),
    "a folder outside": ("../..", "leads out"),
    "a neighbour whose name begins the same": ("../law-2", "leads out"),
    "absolute": ("/etc/passwd", "leads out of its model, to /etc/passwd"),
    "nowhere, outside": ("../../missing", "leads out"),
    "nowhere, inside": ("missing", "broken link"),
    "itself": ("link", "broken link"),
    "a device": ("/dev/zero", "leads out"),
}


@pytest.mark.parametrize(("to", "reason"), LINKS.values(), ids=LINKS.keys())
def test_links(to: str, reason: str, model: Path) -> None:
    (model / "link").symlink_to(to)
    with pytest.raises(CheckpointError, match=rf"^{model}/link is a .*{reason}"):
        inside(model, "link")


def test_below_a_link_to_a_folder(model: Path) -> None:
    (model / "2_Dense").symlink_to("../..")
    with pytest.raises(CheckpointError, match=r"2_Dense/secret is a link that leads out"):
        inside(model, "2_Dense/secret")
    with pytest.raises(CheckpointError, match=r"2_Dense/new is a link that leads out"):
        inside(model, "2_Dense/new")  # nor would anything be written there


def test_links_in_the_directory(model: Path, tmp_path: Path) -> None:
    (model / "alias").symlink_to("1_Pooling/config.json")
    (model / "0_Pooling").symlink_to("1_Pooling")
    (tmp_path / "law").symlink_to(model)
    for name in ("alias", "0_Pooling/config.json"):
        assert inside(model, name) == model / name
        assert inside(tmp_path / "law", name) == tmp_path / "law" / name  # the user's own link


SPECIAL: list[Callable[[Path], None]] = [os.mkfifo, lambda path: os.mknod(path, 0o140600)]  # a pipe, a socket


@pytest.mark.parametrize("make", SPECIAL)
def test_no_regular_file(make: Callable[[Path], None], model: Path) -> None:
    make(model / "special")
    (model / "link").symlink_to("special")
    for name in ("special", "link"):
        with pytest.raises(CheckpointError, match=rf"{name}: expected a file, found a pipe or a device"):
            inside(model, name)


def test_snapshot_of_the_hub(tmp_path: Path) -> None:
    repository = tmp_path / "hub/models--org--law"
    snapshot = repository / "snapshots/0123abc"
    (snapshot / "1_Pooling").mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs/77").write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text("0123abc")
    (snapshot / "config.json").symlink_to("../../blobs/77")
    (snapshot / "1_Pooling/config.json").symlink_to("../../../blobs/77")
    (snapshot / "refs").symlink_to("../../refs/main")
    (snapshot / "lost").symlink_to("../../blobs/78")
    (snapshot / "other").symlink_to("../../../models--org--other/blobs/77")
    assert inside(snapshot, "config.json") == snapshot / "config.json"
    assert inside(snapshot, "1_Pooling/config.json").read_text() == "{}"
    assert inside(snapshot / "1_Pooling", "config.json").read_text() == "{}"
    for name, reason in (("refs", "leads out"), ("lost", "broken link"), ("other", "leads out")):
        with pytest.raises(CheckpointError, match=reason):
            inside(snapshot, name)
    (repository / "blobs/77").unlink()
    (repository / "blobs").rmdir()
    (repository / "blobs").symlink_to("/etc")  # blobs of an archive that only looks like the cache
    (snapshot / "passwd").symlink_to("../../blobs/passwd")
    with pytest.raises(CheckpointError, match=r"leads out of its model, to /etc/passwd"):
        inside(snapshot, "passwd")
