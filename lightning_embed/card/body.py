"""Text of a card: the known facts; unknown ones are named as unknown, or left out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from lightning_embed.card.markdown import block, code, escaped, link, table
from lightning_embed.card.origin import Origin
from lightning_embed.card.results import tables
from lightning_embed.card.training import Training, cuts, written
from lightning_embed.card.usage import Usage
from lightning_embed.merge.record.record import MergeRecord
from lightning_embed.report.scores.small import small_tables
from lightning_embed.storage.names import visible
from lightning_embed.types import BASE, Results

_DOMAINS = "In domain: the run has train rows of the same data set, which not every expert has seen; out of domain: it has none."
_DOMAINS_GIVEN = (
    "In domain: there are train rows of the same data set; whether the merged models saw them is not known."
)
_MOST = 1000  # letters of a plan that is shown in full


@dataclass(frozen=True)
class Facts:
    """The facts of a card.

    Args:
        title: of the card.
        own: name of the model in the results.
        usage: code that uses it.
        origins: of the models that it was made from, from this package or not.
        license: None: not known, or more than one.
        trainings: model -> the known facts of its training.
        record: of the merge; None: the model was trained.
        trained_here: whether the run trained the merged models, and so knows their training rows.
        results: of the models that the card compares; empty: nothing was measured.
        commands: shell commands that make the model again.
        versions: of Python and the packages that made and measured it.
    """

    title: str
    own: str
    usage: Usage
    origins: Sequence[Origin]
    license: str | None
    trainings: Mapping[str, Training]
    record: MergeRecord | None
    trained_here: bool
    results: Mapping[str, Results]
    commands: Sequence[str]
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The names on the hub of the models that it was made from."""
        return list(dict.fromkeys(name for origin in self.origins for name in origin.names))

    @property
    def languages(self) -> list[str]:
        """The languages in the cards of the origins."""
        return list(dict.fromkeys(word for origin in self.origins for word in origin.languages))


def body(facts: Facts) -> str:
    """The whole card below its front matter."""
    parts = [
        f"# {escaped(facts.title)}",
        _lead(facts),
        "## Results",
        _results(facts),
        "## How to use it",
        _usage(facts),
    ]
    parts += ["## How it was made", *_trainings(facts.trainings), *_merge(facts.record), _again(facts)]
    parts += ["## Limits", _limits(facts)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _lead(facts: Facts) -> str:
    dims = f" of {facts.usage.dim} dimensions" if facts.usage.dim else ""
    linked = list(map(link, facts.names))
    base, made = _and(linked) or "a base whose name on the hub is not known", ""
    if facts.record is not None:
        sources = [escaped(source.name) for source in facts.record.sources]
        made = f"It is {len(sources)} models merged into one by {code(facts.record.strategy)}: {_and(sources)}"
        made += f", made from {base}."
    elif training := facts.trainings.get(facts.own):
        if training.start != BASE:
            base = f"{code(training.start)}, itself made from {base},"
        made = (
            f"It was trained from {base} on {_and(list(map(escaped, training.trained_on))) or 'no rows'}, "
            f"{training.steps:,} steps, as an expert that "
            "may be merged with others."
        )
    return (
        f"A text-embedding model: it turns a text into a vector{dims}, so that the cosine of two vectors measures the "
        f"similarity of the texts. {made}"
    )


def _results(facts: Facts) -> str:
    if facts.own not in facts.results:
        return "This model was not measured."
    note = (
        "Percent points, measured by mteb's tasks in float32; a task's score is the mean over its sets. Models are "
        "chosen by their dev scores; test scores are for the final comparison. "
    ) + (_DOMAINS if facts.trained_here else _DOMAINS_GIVEN)
    return f"{note}\n\n{tables(facts.results, facts.own)}"


def _usage(facts: Facts) -> str:
    use = facts.usage
    parts = [block(use.sentence_transformers, "python")]
    if use.path == ".":
        parts.insert(0, "`.` is the folder of this card; write its path, or its name on the hub.")
    if use.transformers is not None:
        parts += ["The same with transformers alone:", block(use.transformers, "python")]
    if use.prompts:
        rows = []
        for name, text in use.prompts.items():
            default = " (default)" if name == use.default_prompt else ""
            rows.append([code(name), f"{code(json.dumps(text, ensure_ascii=False))}{default}"])
        parts.append(f"Prompts, put before a text by `prompt_name=`:\n\n{table(['name', 'prompt'], rows, words=2)}")
    return "\n\n".join([*parts, *_matryoshka(facts)])


def _matryoshka(facts: Facts) -> list[str]:
    trained = {name: training.dims for name, training in facts.trainings.items() if training.dims}
    if not trained:
        return []
    if not (lengths := cuts(facts.trainings)):
        listed = "; ".join(
            f"{escaped(name)}: {escaped(task)} at {_and(dims)}"
            for name, by_task in trained.items()
            for task, dims in by_task.items()
        )
        return [f"Matryoshka dims: {listed} dimensions. Not all of the training was, so measure before you cut."]
    shorter = [length for length in lengths if length != facts.usage.dim]
    code = f"SentenceTransformer({json.dumps(facts.usage.path)}, truncate_dim={(shorter or lengths)[0]})"
    merged = " before the merge" if facts.record is not None else ""
    return [
        f"Matryoshka dims: trained{merged} at {_and(lengths)} dimensions, so embeddings may be cut to their first "
        f"numbers: `{code}`, and `encode(..., normalize_embeddings=True)`. {_of_cut(facts)}"
    ]


def _of_cut(facts: Facts) -> str:
    """Where the scores of cut embeddings are, or how to get them."""
    if any(form.isdigit() for table in small_tables(facts.results) for form in table.forms):
        return "What that costs: see Small vectors above."
    return "The results are those of whole embeddings; `evaluation.small_vectors` measures cut ones."


def _trainings(trainings: Mapping[str, Training]) -> list[str]:
    if not trainings:
        return []
    rows = [
        [
            escaped(name),
            escaped(each.start),
            ", ".join(f"{escaped(task)}: {code(loss['name'])}" for task, loss in each.losses.items()),
            ", ".join(f"{escaped(dataset)}: {count:,}" for dataset, count in each.rows.items()),
            ", ".join(map(_seen, each.rows_seen())) or "not known",
            f"{each.steps:,}",
        ]
        for name, each in trainings.items()
    ]
    return [
        table(["model", "starts from", "losses", "rows", "rows seen", "steps"], rows, words=5),
        "\n".join(f"- {escaped(key)}: {value}" for key, value in _options(trainings).items()),
    ]


def _seen(row: tuple[str, str, str, str]) -> str:
    """The rows seen of a dataset, in a few words."""
    name, _, seen, times = row
    return f"{escaped(name)}: {seen}" if float(times) <= 1 else f"{escaped(name)}: {seen} ({times} times each)"


def _options(trainings: Mapping[str, Training]) -> dict[str, str]:
    """Name -> losses and options, given once where all models have the same."""
    found: dict[str, dict[str, str]] = {}
    for name, each in trainings.items():
        for task, loss in each.losses.items():
            found.setdefault(f"loss of {task}", {})[name] = code(written(loss))
    for name, each in trainings.items():
        for key, value in each.options.items():
            found.setdefault(key, {})[name] = escaped(value)
    return {
        key: next(iter(values.values()))
        if len(set(values.values())) == 1
        else "; ".join(f"{escaped(name)}: {value}" for name, value in values.items())
        for key, values in found.items()
    }


def _merge(record: MergeRecord | None) -> list[str]:
    if record is None:
        return []
    options = yaml.safe_dump(
        {"merge": record.strategy, **record.options, "seed": record.seed, "out_dtype": record.out_dtype},
        sort_keys=False,
    )
    digests = [
        visible(f"{digest}  {model.name}/{file}")
        for model in record.models
        for file, digest in sorted(model.sha256.items())
    ]
    digests += [visible(f"{digest}  {file}") for file, digest in sorted(record.sha256.items())]
    parts = [f"### The merge\n\n{block(options, 'yaml')}"]
    if record.plan:
        plan = json.dumps(record.plan)
        found = code(plan) if len(plan) <= _MOST else "too long for this page, in `merge.json`"
        parts.append(f"The plan of the strategy: {found}.")
    if record.looks_at:
        parts.append(f"It used training rows ({record.probe_rows:,.0f}, repetitions included).")
    parts.append("SHA-256 of the merged models, and of the result:\n\n" + block("\n".join(digests)))
    return [*parts, *map(escaped, record.remarks())]


def _again(facts: Facts) -> str:
    commands = block("\n".join(map(visible, facts.commands)))
    versions = ", ".join(escaped(f"{name} {version}") for name, version in facts.versions.items())
    return f"### Again\n\n{commands}\n\nVersions: {versions}."


def _limits(facts: Facts) -> str:
    use = facts.usage
    lines = [
        f"Texts are cut after {use.max_length:,} tokens, special ones included." if use.max_length else "",
        f"Languages, from the card of the model that it was made from: {', '.join(map(escaped, facts.languages))}."
        if facts.languages
        else "Its languages are not known.",
        _license(facts),
        "Only the results above were measured; other domains, longer texts, fairness and robustness were not.",
    ]
    return "\n".join(f"- {line}" for line in lines if line)


def _license(facts: Facts) -> str:
    known = list(dict.fromkeys(origin.license for origin in facts.origins if origin.license))
    if facts.license:
        base = ", that of the base" if [facts.license] == known else ""
        return f"Licence: {escaped(facts.license)}{base}. The data may have terms of their own."
    if len(known) > 1:
        return (
            f"The models that it was made from have different licences ({', '.join(map(escaped, known))}). Find out which one "
            "applies before you share this model."
        )
    return (
        "The licence of the model that it was made from is not known. Find out which one applies before you share this "
        "model."
    )


def _and(words: Sequence[Any]) -> str:
    listed = [str(word) for word in words]
    return f"{', '.join(listed[:-1])} and {listed[-1]}" if len(listed) > 1 else "".join(listed)
