from pathlib import Path

import pytest

from lightning_embed.storage.unique_names import distinct, named_by_repository

SNAPSHOT = "/cache/hub/models--intfloat--e5-base/snapshots/0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (SNAPSHOT, "/cache/hub/intfloat/e5-base"),
        ("/cache/hub/models--bert-base-uncased/snapshots/ab", "/cache/hub/bert-base-uncased"),
        ("/models/snapshots/ab", "/models/snapshots/ab"),
        ("/models--a--b/ab", "/models--a--b/ab"),
        ("/models/a", "/models/a"),
        ("/", "/"),
    ],
)
def test_a_snapshot_has_the_name_of_its_repository(path: str, expected: str) -> None:
    assert named_by_repository(Path(path)) == Path(expected)


def test_as_many_parents_as_make_names_unique() -> None:
    assert distinct([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert distinct([Path("/x/a"), Path("/y/a")]) == ["x-a", "y-a"]
    assert distinct([Path("/x/base")], taken=["base"]) == ["x-base"]
