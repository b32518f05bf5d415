"""The files of one's own code count among what names a run."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_embed import registry
from lightning_embed.config import local_code, plugins
from lightning_embed.config.content import in_words
from lightning_embed.config.plugins import Plugins, import_words
from tests.config.test_plugins import FILE


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with code of its own."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/mine.py").write_text(FILE.format(word="mine"))
    (tmp_path / "my_cb.py").write_text("class Hello: pass")
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack/optim.py").write_text("class Fast: pass")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(plugins, "_local", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    import_words(Plugins.here)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "plugins"]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("options", "files"),
    [
        ({"sampler": {"name": "mine"}}, ["plugins/mine.py"]),
        ({"callback": {"a": {"_target_": "my_cb.Hello"}}}, ["my_cb.py"]),
        ({"optimizer": {"_target_": "pack.optim.Fast", "lr": 1}}, ["pack/optim.py"]),
        ({"callback": {"a": {"x": [{"_target_": "my_cb.Hello.make"}]}}}, ["my_cb.py"]),
        (
            {"sampler": {"name": "mine"}, "callback": {"a": {"_target_": "my_cb.Hello"}}},
            ["my_cb.py", "plugins/mine.py"],
        ),
        ({"sampler": {"name": "round_robin"}}, []),
        ({"experts": {"name": "mine"}}, []),  # a word of another room
        ({"callback": {"a": {"_target_": "lightning.pytorch.callbacks.Timer"}}}, []),
        ({"optimizer": {"_target_": "torch.optim.AdamW"}}, []),
        ({"scheduler": {"_target_": "lightning_embed.training.lr_schedule.linear"}}, []),
        ({"data": {"datasets": {"mine": {"path": "my_cb.py"}}}, "seed": 3, "name": "mine"}, []),
        ({"callback": {"a": {"_target_": None}}, "trainer": {"_target_": "Trainer"}}, []),
    ],
)
def test_the_files_that_a_config_names(options: dict[str, Any], files: list[str], here: Path) -> None:
    found = local_code.content(options)
    assert list(found) == [f"code.{file}" for file in files]
    for file in files:
        (here / file).write_text((here / file).read_text() + "\n# edited\n")
    edited = local_code.content(options)
    assert [key for key in found if found[key] != edited[key]] == list(found)
    assert [in_words(key) for key in found] == [f"your code ({file})" for file in files]
