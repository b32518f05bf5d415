"""The overrides of a command line, parsed by Hydra's own parser."""

from collections.abc import Iterable

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from lightning_embed.config.secrets import FROM_ENVIRONMENT, HIDDEN, is_secret, without_secrets_in_override
from lightning_embed.types import Choice


def parsed(texts: Iterable[str]) -> list[Choice]:
    """Parse overrides as they were typed: loss@sts_loss=pro has the key sts_loss and the value pro."""
    parser = OverridesParser.create()
    overrides = [(text, parser.parse_override(text)) for text in texts]
    return [Choice(each.package or each.key_or_group, text.partition("=")[2], text) for text, each in overrides]


def typed() -> list[Choice]:
    """The choices of this command, without the options of Hydra itself."""
    if not HydraConfig.initialized():
        return []
    texts = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    assert isinstance(texts, list)
    return parsed(map(str, texts))


def shown() -> list[Choice]:
    """The choices of this command for files and pages, without secrets."""
    return list(map(_shown, typed()))


def _shown(choice: Choice) -> Choice:
    before, _, value = choice.text.partition("=")
    if is_secret(choice.key) and not value.strip("'\"").startswith(FROM_ENVIRONMENT):
        return Choice(choice.key, HIDDEN, f"{before}={HIDDEN}")
    text = without_secrets_in_override(choice.text)
    return Choice(choice.key, text.partition("=")[2], text)
