"""Agreement of gradients, read back from the csv files of a training."""

from pathlib import Path

from lightning_embed.report import read_conflict


def _write(folder: Path, *lines: str) -> None:
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text("\n".join(["conflict/cosine/a-b/all,step", *lines]))


def test_a_training_that_was_killed_and_went_on(tmp_path: Path) -> None:
    """Half a line at the end of one file, the rest in the next, of which the tenth comes after the second."""
    _write(tmp_path / "version_2", "0.1,1", "0.2,2", "0.3")
    _write(tmp_path / "version_10", "0.4,3", ",4")
    _write(tmp_path / "version_2.bak", "0.9,9")
    assert read_conflict(tmp_path) == {"a-b": {"all": {1: 0.1, 2: 0.2, 3: 0.4}}}
    assert read_conflict(tmp_path / "nowhere") == {}
