"""The third door: the folder plugins/ of the working directory, and its modules."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightning_embed import registry
from lightning_embed.config import plugins
from lightning_embed.config.compose import check_command
from lightning_embed.config.plugins import Plugins, import_words, make_importable
from lightning_embed.errors import ConfigError, PluginError, RegistryError

ROOT = Path(__file__).parents[2]
FILE = """
from dataclasses import dataclass
from lightning_embed import register
from lightning_embed.sampler.round_robin import RoundRobin

@register("sampler", "{word}")
@dataclass(frozen=True)
class Mine(RoundRobin):
    "Mine."
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with an empty plugins/; what is imported there is forgotten."""
    (tmp_path / "plugins").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(plugins, "_local", {})
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("plugins", "shared"):
            del sys.modules[name]


def _write(file: Path, text: str) -> None:
    file.write_text(text)


def test_a_word_of_this_folder(here: Path) -> None:
    _write(here / "plugins/mine.py", FILE.format(word="mine"))
    import_words(Plugins.here)
    assert registry.get("sampler", "mine").__module__ == "plugins.mine"
    assert plugins.local_files() == {"plugins/mine.py": here / "plugins/mine.py"}
    import_words(Plugins.here)  # as in a worker that has the modules already


def test_installed_leaves_it_out(here: Path) -> None:
    _write(here / "plugins/mine.py", "raise SystemExit  # lightning_embed")
    import_words(Plugins.installed)
    assert plugins.local_files() == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("other.py", "raise SystemExit('of another purpose')"),
        ("my-file.py", "raise SystemExit  # lightning_embed, and no name of a module"),
        ("2.py", "raise SystemExit  # lightning_embed"),
        ("mine.txt", "raise SystemExit  # lightning_embed"),
        ("mine.pyc", "lightning_embed"),
        ("deeper/mine.py", "raise SystemExit  # lightning_embed"),
    ],
)
def test_files_of_another_purpose_are_not_run(name: str, text: str, here: Path) -> None:
    (here / "plugins" / name).parent.mkdir(exist_ok=True)
    _write(here / "plugins" / name, text)
    import_words(Plugins.here)
    assert plugins.local_files() == {}


@pytest.mark.parametrize("folder", ["data/plugins", "model/plugins", "my-conf/plugins", "../plugins"])
def test_no_other_folder_is_looked_at(folder: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = here / "work"
    inside.mkdir()
    (inside / folder).mkdir(parents=True, exist_ok=True)
    _write(inside / folder / "mine.py", "raise SystemExit  # lightning_embed")
    monkeypatch.chdir(inside)
    import_words(Plugins.here)
    assert plugins.local_files() == {}


@pytest.mark.parametrize(
    "line", ["from plugins.shared import NAME", "from .shared import NAME", "from shared import NAME"]
)
@pytest.mark.parametrize("has_init", [False, True])
def test_files_share_modules(line: str, has_init: bool, here: Path) -> None:
    folder = here if line.startswith("from shared") else here / "plugins"
    _write(folder / "shared.py", "NAME = 'shared_word'")
    _write(here / "plugins/mine.py", line + FILE.replace('"{word}"', "NAME"))
    if has_init:
        _write(here / "plugins/__init__.py", "")
    import_words(Plugins.here)
    assert "shared_word" in registry.names("sampler")


def test_an_installed_package_called_plugins_does_not_hide_it(here: Path) -> None:
    (here / "site/plugins").mkdir(parents=True)
    _write(here / "site/plugins/__init__.py", "raise SystemExit")
    sys.path.insert(0, str(here / "site"))
    _write(here / "plugins/mine.py", FILE.format(word="mine"))
    import_words(Plugins.here)
    assert "mine" in registry.names("sampler")


def test_one_that_is_imported_is_named(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, "plugins", SimpleNamespace(__file__="/site/plugins/__init__.py", __path__=["/site"])
    )
    _write(here / "plugins/mine.py", FILE.format(word="mine"))
    with pytest.raises(PluginError, match=r"plugins is a package of /site/plugins/__init__.py: rename that one"):
        import_words(Plugins.here)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
        ("def f(:", "SyntaxError"),
        ("raise KeyError('x')", "KeyError: 'x'"),
    ],
)
def test_a_broken_file_is_named(text: str, answer: str, here: Path) -> None:
    _write(here / "plugins/bad.py", f"# lightning_embed\n{text}\n")
    with pytest.raises(PluginError, match=rf"{here}/plugins/bad.py: cannot be imported: .*{answer}.*plugins=installed"):
        import_words(Plugins.here)


def test_two_owners_are_named(here: Path) -> None:
    _write(here / "plugins/mine.py", FILE.format(word="batch_shuffle"))
    with pytest.raises(
        RegistryError, match=r"sampler=batch_shuffle has two owners: .*plugins/mine.py:Mine\..*installed"
    ):
        import_words(Plugins.here)


def test_the_plugins_of_a_checkout_are_not_imported_twice(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    import_words(Plugins.here)
    assert plugins.local_files() == {}
    assert "plugins" not in sys.modules
    shutil.copytree(ROOT / "plugins", here / "plugins", dirs_exist_ok=True)  # another checkout, of the same version
    monkeypatch.chdir(here)
    _write(here / "plugins/mine.py", FILE.format(word="mine"))
    import_words(Plugins.here)
    assert list(plugins.local_files()) == ["plugins/mine.py"]


def test_the_working_directory_is_first_on_the_path(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/usr/lib"])
    make_importable(here)
    make_importable(here)
    assert sys.path == [str(here), "/usr/lib"]


@pytest.mark.parametrize(("path", "safe"), [(["", "/usr/lib"], False), (["/usr/lib"], True)])
def test_the_path_stays_where_python_decides(
    path: list[str], safe: bool, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = SimpleNamespace(path=list(path), flags=SimpleNamespace(safe_path=safe))
    monkeypatch.setattr(plugins, "sys", fake)
    make_importable(here)
    assert fake.path == path


def test_a_file_of_options_cannot_choose_it(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    _write(tmp_path / "experiment/mine.yaml", "# @package _global_\nplugins: installed\n")
    with pytest.raises(ConfigError, match="plugins=installed: expected on the command line, got it in a file"):
        check_command("train", ["experiment=mine"], str(tmp_path))
    check_command("train", ["plugins=installed"])
    with pytest.raises(ConfigError, match="plugins=none"):
        check_command("train", ["plugins=none"])
