"""Names of models by their paths; a snapshot of the hub's cache has the name of its repository."""

from pathlib import Path

import pytest

from lightning_embed.storage.unique_names import distinct, repository

HUB = "/cache/hub/models--org--law/snapshots"
A, B = "0123456789abcdef0123456789abcdef01234567", "fedcba9876543210fedcba9876543210fedcba98"


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/x", "/a/x"], ["x", "a-x"]),
        (["/m/law", "/m/tax"], ["law", "tax"]),
        ([f"{HUB}/{A}"], ["law"]),
        ([f"{HUB}/{A}", "/m/tax"], ["law", "tax"]),
        ([f"{HUB}/{A}", "/m/law"], ["org-law", "m-law"]),
        ([f"{HUB}/{A}", f"/cache/hub/models--other--law/snapshots/{A}"], ["org-law", "other-law"]),
        ([f"{HUB}/{A}", f"{HUB}/{B}"], ["law-0123456", "law-fedcba9"]),
        (["/cache/models--gpt2/snapshots/abc"], ["gpt2"]),
        (["/models--a/snapshots/b/c"], ["c"]),
        (["/x/snapshots/abc"], ["abc"]),
    ],
)
def test_names(paths: list[str], names: list[str]) -> None:
    assert distinct([Path(path) for path in paths]) == names


def test_taken_names() -> None:
    assert distinct([Path("/a/x"), Path("/a/base")], taken=["base"]) == ["a-x", "a-base"]
    assert distinct([Path("/hub/models--org--base/snapshots/012")], taken=["base"]) == ["org-base"]


@pytest.mark.parametrize(
    ("path", "name"),
    [(f"{HUB}/{A}", "org/law"), ("/h/models--gpt2/snapshots/a", "gpt2"), ("/m/law", None), (HUB, None)],
)
def test_repositories(path: str, name: str | None) -> None:
    assert repository(Path(path)) == name
