"""Options of a registered word that the laws need: what a word cannot do without stands in its own test file."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any


def options(room: str, word: str) -> Mapping[str, Any]:
    """`OPTIONS` of tests/<room>/test_<word>.py; none where the defaults are enough."""
    name = f"tests.{room}.test_{word}"
    return getattr(import_module(name), "OPTIONS", {}) if find_spec(name) else {}
