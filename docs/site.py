"""Hooks of mkdocs: pages that are generated from the README, the configs and the registry, and links out of docs/."""

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
ROOMS = {"loss": "losses", "merge": "merges", "sampler": "samplers", "experts": "experts"}
TITLES = {"loss": "Losses", "merge": "Merge strategies", "sampler": "Samplers", "experts": "Plans of experts"}
GROUPS = [
    "data", "encoder", "sampler", "experts", "loss", "merge", "mining", "teacher", "probe", "doctor", "evaluation", "optimizer",
    "parameter_groups", "scheduler", "trainer", "callback", "logger", "experiment",
]  # fmt: skip
PYTHON = {
    "Open and use a model": ["lightning_embed.encoder.load", "lightning_embed.encoder.encoder.Encoder"],
    "Train": [
        "lightning_embed.data.options.DatasetOptions", "lightning_embed.data.load_datasets",
        "lightning_embed.data.EmbeddingDataModule", "lightning_embed.training.module.EmbeddingModule",
        "lightning_embed.training.sharded.Sharded",
    ],
    "Extend": [
        "lightning_embed.registry.register", "lightning_embed.loss.base.Loss", "lightning_embed.types.LossInput",
        "lightning_embed.sampler.Sampler", "lightning_embed.experts.ExpertPlan", "lightning_embed.merge.MergeStrategy",
    ],
    "Errors": ["lightning_embed.errors"],
}  # fmt: skip
_OPTION = re.compile(r"^( *)(?:- )?([\w@./${}-]+):(?: +(.*?))?(?: +# (.*))?$")


@event_priority(100)  # before mkdocstrings makes its handlers
def on_config(config: Any) -> Any:
    """Let mkdocstrings read the package as it is installed, with plugins/ in it."""
    package = Path(tempfile.mkdtemp(), "lightning_embed")
    package.mkdir()
    for part in (ROOT / "lightning_embed").iterdir():
        (package / part.name).symlink_to(part)
    (package / "plugins").symlink_to(ROOT / "plugins")
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(package.parent)]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    pages = {"index.md": _home(), "changelog.md": (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")}
    pages |= {f"reference/{page}.md": _words(room) for room, page in ROOMS.items()}
    pages |= {"reference/options.md": _options(), "reference/python.md": _python()}
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Titles of files in code, and no links to files that are not pages."""
    text = re.sub(r"^```(\w+) (\S+)$", r'```\1 title="\2"', markdown, flags=re.MULTILINE)
    text = text.replace("(../README.md", "(index.md").replace("(../CHANGELOG.md", "(changelog.md")
    if page.file.src_uri == "changelog.md":
        text = text.replace("](docs/", "](")
    return re.sub(r"\[([^\]]+)\]\((?:\.\./)+[^)]*\)", r"\1", text)


def _home() -> str:
    """The README, whose links begin at the root of the checkout, without its badges, which are requests."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"^.*img\.shields\.io.*\n", "", text, flags=re.MULTILINE)
    text = re.sub(r"\[(\w+)\]\((?:CONTRIBUTING|LICENSE)[^)]*\)", r"\1", text)
    return text.replace("](docs/", "](").replace("](CHANGELOG.md", "](changelog.md").replace('src="docs/', 'src="')


def _words(room: str) -> str:
    """One entry for each registered word, from its class."""
    from lightning_embed import registry
    from lightning_embed.config.plugins import import_words

    import_words()
    lines = [f"# {TITLES[room]}", "", "| word | |", "|---|---|"]
    entries = list(registry.entries(room))
    lines += [f"| [`{entry.name}`][{_place(entry)}] | {entry.summary} |" for entry in entries]
    for entry in entries:
        lines += [
            "",
            f"::: {_place(entry)}",
            "    options:",
            f"      heading: {entry.name}",
            f"      toc_label: {entry.name}",
        ]
    return "\n".join(lines) + "\n"


def _place(entry: Any) -> str:
    return f"{entry.cls.__module__}.{entry.cls.__qualname__}"


def _python() -> str:
    lines = ["# Python", "", "What `train.py` does, from Python. Every public name has the page of its docstring."]
    for title, names in PYTHON.items():
        lines += ["", f"## {title}", *(f"\n::: {name}\n    options: {{heading_level: 3}}" for name in names)]
    return "\n".join(lines) + "\n"


def _options() -> str:
    """Every option with its default and its comment, from conf/."""
    lines = ["# Options", "", "Every option is an override: `python train.py merge=ties merge.density=0.3`."]
    for name, title in {"train": "train.py", "merge": "merge.py", "run": "both"}.items():
        lines += ["", f"## {title}", "", *_table(ROOT / "conf" / f"{name}.yaml")]
    for group in GROUPS:
        lines += ["", f"## {group}="]
        for file in sorted((ROOT / "conf" / group).glob("*.yaml")):
            lines += ["", f"### {group}={file.stem}", "", *_table(file)]
    return "\n".join(lines) + "\n"


def _table(file: Path) -> Iterator[str]:
    text = file.read_text(encoding="utf-8").splitlines()
    yield from (_heading(line[2:]) for line in text if line.startswith("# ") and not line.startswith("# @package"))
    rows = list(_rows(text))
    if rows:
        yield from ("", "| option | default | |", "|---|---|---|")
    for name, default, comment in rows:
        yield f"| `{name}` | {f'`{default}`' if default else ''} | {_plain(comment)} |"


def _heading(line: str) -> str:
    """A comment at the head of a file: a command and what it does, or a sentence."""
    command, gap, purpose = re.split(r"( {3,})", f"{line}   ", maxsplit=1)
    return f"`{command}`  \n{_plain(purpose.strip())}  " if line.startswith("python ") and gap else f"{_plain(line)}  "


def _plain(text: str) -> str:
    return re.sub(r"([|\[\]<>*_])", r"\\\1", text)


def _rows(text: list[str]) -> Iterator[tuple[str, str, str]]:
    """The keys of a YAML file by their dotted names, without its list of defaults."""
    stack: list[tuple[int, str]] = []
    in_defaults = False
    for line in text:
        found = _OPTION.match(line)
        if found is None or line.lstrip().startswith("#"):
            continue
        indent, key, value, comment = len(found[1]), found[2], found[3] or "", found[4] or ""
        if indent == 0:
            in_defaults = key == "defaults"
        if in_defaults or key == "_target_":
            continue
        stack = [(depth, name) for depth, name in stack if depth < indent]
        stack.append((indent, key))
        yield ".".join(name for _, name in stack), value.replace("|", "\\|"), comment
