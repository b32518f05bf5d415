"""The register of words."""

from dataclasses import dataclass

import pytest

from lightning_embed import registry
from lightning_embed.errors import RegistryError


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entries", {})


@dataclass(frozen=True)
class Thing:
    """A thing.

    More about it.
    """

    number: int = 1


@pytest.mark.usefixtures("empty")
def test_register_and_build() -> None:
    registry.register("loss", "thing")(Thing)
    assert registry.names("loss") == ["thing"]
    assert registry.build("loss", {"name": "thing", "number": 3}) == Thing(3)
    assert next(registry.entries("loss")).summary == "A thing."


@pytest.mark.usefixtures("empty")
def test_refusals() -> None:
    registry.register("loss", "thing")(Thing)
    registry.register("loss", "thing")(Thing)  # the same class again: a module imported twice

    @dataclass(frozen=True)
    class Other:
        pass

    class Mutable:
        pass

    with pytest.raises(RegistryError, match=r"two owners: .*Thing and .*Other"):
        registry.register("loss", "thing")(Other)
    with pytest.raises(RegistryError, match="must be a frozen dataclass"):
        registry.register("loss", "mutable")(Mutable)
    with pytest.raises(RegistryError, match=r"no room 'los'. Did you mean 'loss'\?"):
        registry.register("los", "thing")
    with pytest.raises(RegistryError, match=r"No loss=thin. Did you mean 'thing'\?"):
        registry.get("loss", "thin")
    with pytest.raises(RegistryError, match=r"has no option 'numbr'. Did you mean 'number'\?"):
        registry.build("loss", {"name": "thing", "numbr": 3})
