"""Cards of models with hostile texts in everything that others wrote: names, options, licences, scores, records."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from markdown_it import MarkdownIt

from lightning_embed.card import markdown
from lightning_embed.card.body import Facts, body
from lightning_embed.card.origin import Origin
from lightning_embed.card.training import Training
from lightning_embed.card.usage import Usage
from lightning_embed.card.write import _save, _write, _write_base
from lightning_embed.merge.record.record import MergeRecord, ModelRecord
from lightning_embed.storage.names import visible, visible_in
from tests.report import hostile

RENDERED = MarkdownIt("commonmark", {"html": True}).enable("table")


def _facts(text: str, merged: bool) -> Facts:
    losses: dict[str, Any] = {f"k{text}": {"name": f"loss{text}", "a": text, "dims": [2]}}
    training = Training(
        {f"d{text}": 3}, 4, losses, f"start{text}", {f"o{text}": text, "p": [text]}, [text], {f"v{text}": text}
    )
    fields = hostile.record(text)
    sources = [ModelRecord(**source) for source in fields["sources"]]
    record = MergeRecord(**{**fields, "sources": sources, "base": ModelRecord(**fields["base"]), "geometry": None})
    usage = Usage(".", 3, 4, {f"query{text}": text}, f"query{text}", f"load({text!r})", f"load({text!r})")
    own = f"soup{text}" if merged else f"one{text}"
    return Facts(
        title=f"x{text}", own=visible(own), usage=usage, origins=[Origin([f"n{text}"], f"l{text}", [f"e{text}"]), Origin([text], text, [text])],
        license=text if merged else None, trainings={visible(own): training, f"two{text}": training}, record=record if merged else None,
        trained_here=merged, results=visible_in(hostile.models(text)), commands=[f"python train.py a={text}"], versions={f"v{text}": text},
    )  # fmt: skip


def _structure(card: str) -> hostile.Structure:
    return hostile.Structure.of(RENDERED.render(card))


TAME = [_structure(body(_facts("tame", merged))) for merged in (True, False)]


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("text", hostile.TEXTS)
def test_the_body_of_a_card(text: str, merged: bool) -> None:
    card = body(_facts(text, merged))
    assert card.encode()
    found = _structure(card)
    assert found.tags <= TAME[0].tags | TAME[1].tags
    shown = "".join(found.text)
    assert visible(f"x{text}").strip() in shown
    assert card.count("\n## ") == 4, "no heading of others"
    assert all(link.startswith("https://huggingface.co/") for link in _links(card))


def _links(card: str) -> list[str]:
    tokens = [child for token in RENDERED.parse(card) for child in token.children or ()]
    return [str(token.attrs["href"]) for token in tokens if token.type == "link_open"]


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("text", hostile.TEXTS)
def test_the_front_matter_of_a_card(text: str, merged: bool, tmp_path: Path) -> None:
    _write(tmp_path, _facts(text, merged))
    front, card = (tmp_path / "README.md").read_text().removeprefix("---\n").split("\n---\n", 1)
    metadata = yaml.safe_load(front)
    assert metadata["library_name"] == "sentence-transformers"
    assert visible(text) in metadata["base_model"]
    assert card.startswith("\n# x")


@pytest.mark.parametrize("text", hostile.TEXTS)
def test_the_card_of_a_base(text: str, tmp_path: Path) -> None:
    _write_base(tmp_path, Origin([f"n{text}"], text, [text]))
    front, card = (tmp_path / "README.md").read_text().removeprefix("---\n").split("\n---\n", 1)
    yaml.safe_load(front)
    assert _structure(card).tags == {("h1", ()), ("p", ())}
    _save(tmp_path, "x", language=[text])


@pytest.mark.parametrize("text", hostile.TEXTS)
def test_texts_of_markdown(text: str) -> None:
    line = RENDERED.render(f"a {markdown.escaped(text)} b {markdown.code(text or ' ')} c")
    found = hostile.Structure.of(line)
    assert found.tags == {("p", ()), ("code", ())}
    cells = _structure(
        markdown.table([markdown.escaped(text), "b"], [[markdown.code(text or "-"), markdown.escaped(text)]])
    )
    assert cells.tags <= {(tag, ()) for tag in ("table", "thead", "tbody", "tr", "th", "td", "code")} | {
        ("th", ("style",)),
        ("td", ("style",)),
    }
    assert _structure(markdown.block(text or "-", "yaml")).tags == {("pre", ()), ("code", ("class",))}
