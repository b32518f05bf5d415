"""Words inside of options: a choice of a group of conf/ that stands elsewhere than at its own key."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lightning_embed import registry
from lightning_embed.config.schema import conf_folder, twin, words
from lightning_embed.config.values import plain
from lightning_embed.errors import ConfigError, nearest
from lightning_embed.types import Task


def chosen(path: str, group: str, given: Any, now: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The options of a choice, as at the key of its group.

    Args:
        path: where it is given, for messages: data.datasets.faq.loss.
        group: of conf/, with words of ours; those of a --config-dir are not known here.
        given: a word; or options, the word as `name`; or options alone, which replace those of `now`.
        now: the options of this group elsewhere.

    Raises:
        ConfigError: no such word, no such option, a value of another type, or no word at all.
    """
    options = {"name": given} if isinstance(given, str) else plain(given)
    if not isinstance(options, Mapping) or (now is None and not {"name", "_target_"} & options.keys()):
        raise ConfigError(f"{path}: expected a word, or {{name: <word>, <option>: <value>}}, got {given!r}.")
    if "_target_" in options:
        return dict(options)
    options = dict(options)
    word, inner = options.pop("name", None), options.pop("loss", None)
    base = (
        _of_word(path, group, str(word))
        if word is not None
        else now
        if isinstance(now, DictConfig)
        else OmegaConf.create(dict(now or {}))
    )
    if unknown := sorted(options.keys() - set(map(str, base))):
        raise ConfigError(f"{path}.{unknown[0]}: no such option. {nearest(unknown[0], map(str, base))}")
    try:
        found: dict[str, Any] = plain(OmegaConf.merge(base, options))  # a copy, with the types of the schema
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0].rstrip('.')}.") from None
    if inner is not None:  # a wrapped loss is a choice itself
        found["loss"] = chosen(f"{path}.loss", "loss", inner, found.get("loss"))
    return found


def own_loss(dataset: str, given: Any) -> dict[str, Any]:
    """The options of the loss that a dataset has of its own, see `chosen`.

    Raises:
        ConfigError: as `chosen`; or the dataset has the name of a task.
    """
    path = f"data.datasets.{dataset}.loss"
    if dataset in set(Task):
        raise ConfigError(f"{path}: a dataset with a loss of its own cannot have the name of a task. Rename it.")
    return chosen(path, "loss", given)


def _of_word(path: str, group: str, word: str) -> DictConfig:
    """What the file of a word holds, with its defaults, or the defaults of a registered class without a file."""
    file = conf_folder() / group / f"{word}.yaml"
    if word not in words(group):
        raise ConfigError(f"{path}={word}: no such choice. {nearest(word, words(group))}")
    if not file.exists():
        return _schema(group, word)
    body = OmegaConf.load(file)
    assert isinstance(body, DictConfig)
    node = OmegaConf.create({})
    for entry in body.pop("defaults", []):
        if isinstance(entry, str):
            name = entry.partition("@")[0]
            part: Any = _schema(group, name.removeprefix("schema/")) if "/" in name else _of_word(path, group, name)
        else:  # /loss@loss: infonce
            ((key, inner),) = entry.items()
            room, _, place = key.lstrip("/").partition("@")
            part = {place: plain(_of_word(path, room, inner))}
        node = OmegaConf.merge(node, part) if len(node) else OmegaConf.create(part)  # type: ignore[assignment]
    return OmegaConf.merge(node, body) if len(node) else body  # type: ignore[return-value]


def _schema(group: str, word: str) -> DictConfig:
    found: DictConfig = OmegaConf.structured(twin(registry.get(group, word), word))
    return found
