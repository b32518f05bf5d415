"""run.yaml of a wrong shape: the folder is refused in one sentence; nothing that reads it fails otherwise."""

from pathlib import Path

import pytest

from lightning_embed.config import run_yaml
from lightning_embed.config.identity import Identity
from lightning_embed.errors import ConfigError
from lightning_embed.logger.lineage import LoggedModel

WRONG = [
    "", "[]", "3", "just words", "a: [", "hash: 3", "hash: [1]", "options_hash: {}", "content: [a]", "content: {a: 1}",
    "content: words", "id: [1]", "choices: {}", "choices: [merge=ties]", "choices: [{key: a}]", "overrides: a=b",
    "overrides: [1]", "config: []", "config: {name: [1]}", "&a [*a]", "\tx", "a: !!python/object/apply:os.system [ls]",
    "[" * 3000, "? {a: 1}\n: 2",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_a_wrong_shape(text: str, tmp_path: Path) -> None:
    (tmp_path / run_yaml.FILE).write_text(text)
    assert run_yaml.read(tmp_path) is None
    assert run_yaml.folder_id(tmp_path) is None
    assert run_yaml.recorded_choices(tmp_path) == []
    with pytest.raises(
        ConfigError, match=r"run\.yaml cannot be read, so that .* give another out=, or delete the file"
    ):
        run_yaml.refuse_other_run(tmp_path, Identity({}, {}))


def test_bytes_and_a_folder(tmp_path: Path) -> None:
    (tmp_path / run_yaml.FILE).write_bytes(b"hash: \xff")
    assert run_yaml.read(tmp_path) is None
    (tmp_path / run_yaml.FILE).unlink()
    (tmp_path / run_yaml.FILE).mkdir()
    assert run_yaml.read(tmp_path) is None


@pytest.mark.parametrize("text", ["hash: a", "config: {name: a}", "overrides: [a=b]", "later: {a: [1, 2]}"])
def test_an_older_record_may_have_less(text: str, tmp_path: Path) -> None:
    (tmp_path / run_yaml.FILE).write_text(text)
    assert run_yaml.read(tmp_path) is not None
    (tmp_path / "models" / "joint").mkdir(parents=True)
    assert LoggedModel("joint", tmp_path / "models" / "joint").artifact == "joint"
