"""`<out>/report.html`: the results of a run, on one page without external requests."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml

from lightning_embed.merge.record.record import NO_MERGE
from lightning_embed.report.figures.bars import panels
from lightning_embed.report.figures.landscape import Landscape, landscape_pictures, read_landscapes
from lightning_embed.report.figures.scatter import scatter
from lightning_embed.report.figures.style import as_svg
from lightning_embed.report.pages.doctor import doctor_section
from lightning_embed.report.pages.template import PAGE, details, escaped, table
from lightning_embed.report.scores.bootstrap import interval
from lightning_embed.report.scores.merge_groups import Examined, Record, contents, examined
from lightning_embed.report.scores.model_kinds import kind_of, labels, read_records
from lightning_embed.report.scores.results_file import read_each
from lightning_embed.report.scores.small import SMALL_NOTE, form_name, small_tables
from lightning_embed.report.scores.summary import (
    MEAN,
    Block,
    best,
    by,
    by_dev,
    is_ensemble,
    metric,
    metric_name,
    sections,
    show,
    summary,
    task_name,
)
from lightning_embed.storage.atomic import write_whole
from lightning_embed.types import BASE, Results

FILE = "report.html"


def write_report(
    out: Path, models: Mapping[str, Results], config: Mapping[str, Any], seen: Sequence[Sequence[str]] = ()
) -> Path:
    """Write the report of a folder: scores of `models`, every merge found in `<out>/merged/`, and the config.

    Args:
        out: folder of the run.
        models: model -> its scores.
        config: the resolved config.
        seen: rows that the models were trained on: model, dataset, train rows, rows seen, times each.
    """
    records = read_records(out)
    chosen = by_dev(models)[:2]  # the first may be the ensemble
    each = {
        model: (read_each(out, model) if model in (BASE, *chosen) else {}) or found for model, found in models.items()
    }
    # A source may have the name of a merge's label, such as soup.
    called = {name: name if label in models else label for name, label in labels(records).items()}
    shown = {called.get(model, model): found for model, found in each.items()}
    parts = [f'<p class="headline">{headline(shown)}</p>', _scatter(models, records, called)]
    parts += [*map(_block, summary(shown)), _tests(shown), _small(shown), _further(shown)]
    named = {label: records[name] for name, label in called.items()}
    parts += [_doctor(seen, named, read_landscapes(out)) for seen in examined(named)]
    parts += [_merge(name, called[name], record) for name, record in records.items() if record["strategy"] != NO_MERGE]
    if seen:
        header = ["model", "dataset", "train rows", "rows seen", "times each"]
        parts.append(f"<h2>Rows seen</h2>{table(header, [[escape(cell) for cell in row] for row in seen])}")
    parts.append(f"<h2>Config</h2>{details('All options', escape(yaml.safe_dump(dict(config), sort_keys=False)))}")
    file = out / FILE
    write_whole(file, PAGE.substitute(title=escaped(out.name), body="\n".join(parts)))
    return file


def headline(models: Mapping[str, Results]) -> str:
    """The model that dev chooses, its test scores, and the noise of their differences from the base."""
    if not summary(models):
        return "Nothing was measured."
    chosen = _chosen(models)
    if chosen is None or (score := metric(models, chosen, f"dev/{MEAN}")) is None:
        return "No dev scores: nothing here chooses a model."
    found = f"<b>{escaped(chosen)}</b> is best on dev: {show(score)} points, mean of tasks."
    return " ".join([found, *(beside_base(models, block, chosen) for block in _read(models))])


def further(models: Mapping[str, Results], model: str, blocks: Sequence[Block]) -> list[str]:
    """Of every further metric a sentence as `beside_base`, about the tests that have it."""
    words = dict.fromkeys(word for block in blocks for word in block.more)
    views = {word: {name: by(found, word) for name, found in models.items()} for word in words}
    of_word = {word: [block.more[word] for block in blocks if word in block.more] for word in words}
    return [
        f"{metric_name(word)}: {' '.join(beside_base(views[word], block, model) for block in of_word[word])}"
        for word in words
    ]


def beside_base(models: Mapping[str, Results], block: Block, model: str) -> str:
    """A sentence without markup: a model's score, and the noise of its difference from the base."""
    score, base = block.rows[model][MEAN], block.rows.get(BASE, {}).get(MEAN)
    if score is None:
        return f"It was not measured on all of {block.title}."
    if base is None or model == BASE:
        return f"On {block.title} it scores {score:.2f}."
    found = interval({0: models[model]}, {0: models[BASE]}, block.split, block.in_domain)
    sure = "outside" if found and found.outside_noise else "inside"
    noise = f" (95 % interval {found.low:+.2f} to {found.high:+.2f}: {sure} the noise of the queries)" if found else ""
    return f"On {block.title} it scores {score:.2f}, {score - base:+.2f} from the base's {base:.2f}{noise}."


def _block(block: Block) -> str:
    header = ["model", *(f"{escaped(task_name(task))}<br>{escaped(name)}" for task, name in block.metrics.items())]
    header.append("mean<br>of tasks")
    top = block.best
    rows = [
        [escaped(model), *(_cell(row[column], top[column]) for column in block.columns)]
        for model, row in block.rows.items()
    ]
    sets = "; ".join(f"{escaped(task_name(task))}: {escaped(', '.join(names))}" for task, names in block.tests.items())
    note = f'<p class="note">Percent points, mean over the sets of a task. {sets}.</p>'
    charts = f'<div class="panels">{"".join(panels(block))}</div>'
    return f"<h2>{escaped(block.title[0].upper() + block.title[1:])}</h2>{table(header, rows)}{note}{charts}"


def _tests(models: Mapping[str, Results]) -> str:
    rows = []
    for block in sections(models):
        rows.append([block.title])
        for task, names in block.tests.items():
            for name in names:
                scores = block.scores[name]
                top = best(scores)
                rows.append(
                    [escaped(name), escaped(block.metrics[task]), *(_cell(score, top) for score in scores.values())]
                )
                for word, other in block.more_of(name).items():
                    rows.append(
                        ["", escaped(metric_name(word)), *(_cell(score, best(other)) for score in other.values())]
                    )
    return f"<h2>Every set</h2>{table(['set', 'metric', *map(escaped, models)], rows)}" if rows else ""


def _small(models: Mapping[str, Results]) -> str:
    """Embeddings in fewer bytes, a table per block."""
    parts = [
        table(
            [escaped(each.title), *(escaped(form_name(form)) for form in each.forms)],
            [[escaped(model), *map(show, row)] for model, row in each.rows.items()],
        )
        for each in small_tables(models)
    ]
    return f'<h2>Small vectors</h2><p class="note">{SMALL_NOTE}</p>{"".join(parts)}' if parts else ""


def _further(models: Mapping[str, Results]) -> str:
    """Sentences about the model that dev chooses, by every further metric."""
    chosen = _chosen(models)
    sentences = further(models, chosen, _read(models)) if chosen else []
    items = "".join(f"<li>{escaped(sentence)}</li>" for sentence in sentences)
    return f"<h2>Further metrics of {escaped(str(chosen))}</h2><ul>{items}</ul>" if sentences else ""


def _chosen(models: Mapping[str, Results]) -> str | None:
    """The model that dev chooses; an ensemble is none."""
    return next((model for model in by_dev(models) if not is_ensemble(model)), None)


def _read(models: Mapping[str, Results]) -> list[Block]:
    """The tests; without any, at least dev."""
    blocks = sections(models)
    return [block for block in blocks if block.split == "test"] or blocks


def _merge(name: str, label: str, record: Mapping[str, Any]) -> str:
    sources = escaped(", ".join(source["name"] for source in record["sources"]))
    seconds, megabytes = record["seconds"], record["bytes"] / 1e6
    facts = (
        f"{escaped(record['strategy'])} of {sources}: {seconds:.1f} s, {megabytes:.0f} MB, in merged/{escaped(name)}."
    )
    found = json.dumps({"options": record["options"], "plan": record["plan"]}, indent=2)
    return f"<h2>Merge {escaped(label)}</h2><p>{facts}</p>{details('Options and plan', escape(found))}"


def _scatter(models: Mapping[str, Results], records: Mapping[str, Record], called: Mapping[str, str]) -> str:
    figure = scatter(models, {model: kind_of(model, records) for model in models}, called)
    return "" if figure is None else f"<h2>In domain against out of domain</h2><figure>{as_svg(figure)}</figure>"


def _doctor(seen: Examined, records: Mapping[str, Record], landscapes: Sequence[Landscape]) -> str:
    parts = [f"<h2>Geometry: {escaped(', '.join(seen.names))}</h2>", doctor_section(seen)]
    searches = {name: records[name]["plan"].get("path", []) for name in seen.merges}
    for landscape in landscapes:
        if contents(landscape) == seen.contents:
            items = "".join(f"<li>{escaped(finding)}</li>" for finding in landscape["findings"])
            parts.append(f"<h2>Loss between {escaped(', '.join(seen.names))}</h2><ul>{items}</ul>")
            parts += [
                f"<figure>{as_svg(figure)}</figure>"
                for figure in landscape_pictures(landscape, seen, searches).values()
            ]
    return "".join(parts)


def _cell(score: float | None, top: str | None) -> str:
    shown = show(score)
    return f'<span class="best">{shown}</span>' if shown == top else shown
