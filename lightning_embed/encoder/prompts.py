"""Prompts: short texts put before a text that name the purpose of its embedding."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from lightning_embed.errors import ConfigError, nearest
from lightning_embed.types import Task

Role = Literal["query", "document"]

# mteb looks prompts up by its own names of tasks.
_MTEB_TASK = {
    Task.retrieval: "Retrieval",
    Task.sts: "STS",
    Task.classification: "Classification",
    Task.clustering: "Clustering",
}
_MTEB_NAME = {
    f"{task}{role}": f"{name}{role}" for task, name in _MTEB_TASK.items() for role in ("", "-query", "-document")
}
_OUR_NAME = {name: ours for ours, name in _MTEB_NAME.items()}


@dataclass(frozen=True)
class PromptSet:
    """Prompts by name, in our words; `default` names the prompt of texts for which none is named."""

    texts: Mapping[str, str] = field(default_factory=dict)
    default: str | None = None

    def choose(self, task: Task, role: Role, dataset: str) -> str:
        """The most specific prompt that exists, in the order of mteb."""
        names = [f"{dataset}-{role}", dataset, f"{task}-{role}", str(task)]
        if task is Task.retrieval:
            names.append(role)
        return next((self.texts[name] for name in names if name in self.texts), self.named(None))

    def named(self, name: str | None) -> str:
        """The prompt of that name; None: the default one.

        Raises:
            ConfigError: no prompt has that name.
        """
        name = self.default if name is None else name
        if name is None:
            return ""
        if name not in self.texts:
            raise ConfigError(f"This encoder has no prompt {name!r}. {nearest(name, self.texts)}")
        return self.texts[name]

    def __or__(self, more: Mapping[str, str]) -> "PromptSet":
        return PromptSet({**self.texts, **more}, self.default)

    @classmethod
    def from_sentence_transformers(cls, config: Mapping[str, object]) -> "PromptSet":
        """Read them from `config_sentence_transformers.json`."""
        texts: Mapping[str, str] = config.get("prompts") or {}  # type: ignore[assignment]
        default = config.get("default_prompt_name")
        ours = {_OUR_NAME.get(name, name): text for name, text in texts.items()}
        return cls(ours, _OUR_NAME.get(default, default))  # type: ignore[call-overload]

    def to_sentence_transformers(self) -> dict[str, object]:
        """Write them for `config_sentence_transformers.json`, tasks in mteb's spelling."""
        return {
            "prompts": {_MTEB_NAME.get(name, name): text for name, text in self.texts.items()},
            "default_prompt_name": self.default and _MTEB_NAME.get(self.default, self.default),
        }
