"""Layers of parameters, from their names: the one rule for all numbers per layer."""

import re

_NUMBERED = re.compile(r"(?:^|.*?\.)\d+(?=\.)")


def layer_of(name: str) -> str:
    """The layer of a parameter (`encoder.layer.3`), or, outside numbered layers, its top-level module (`embeddings`).

    The first number of the name counts: T5's `encoder.block.2.layer.0` is a part of `encoder.block.2`.
    """
    layer = _NUMBERED.match(name)
    return layer.group() if layer else name.partition(".")[0]
