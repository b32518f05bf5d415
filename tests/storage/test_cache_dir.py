"""The cache folder of users with and without a home."""

import os
import pwd
from pathlib import Path
from tempfile import gettempdir

import pytest

from lightning_embed.storage import cache_dir


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HOME": "/h"}, "/h/.cache/lightning_embed"),
        ({"HOME": "/h", "LIGHTNING_EMBED_CACHE": "/c"}, "/c"),
        ({"HOME": "/h", "LIGHTNING_EMBED_CACHE": "~/c"}, "/h/c"),
        ({"HOME": "/h", "LIGHTNING_EMBED_CACHE": ""}, "/h/.cache/lightning_embed"),
        ({"LIGHTNING_EMBED_CACHE": "/c"}, "/c"),
        ({}, f"{gettempdir()}/lightning_embed-{os.getuid()}"),
    ],
)
def test_the_folder(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    for name in ("HOME", "LIGHTNING_EMBED_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert cache_dir._folder() == Path(expected)
