"""The layer of a parameter, from its name: the one rule for all that is computed layer by layer."""

import re

_NUMBERED = re.compile(r"(?:^|.*?\.)\d+(?=\.)")


def layer_of(name: str) -> str:
    """The layer that a parameter belongs to (`encoder.layer.3`), or, outside numbered layers, its module (`embeddings`).

    The first number of the name counts, so that T5's `encoder.block.2.layer.0` is a part of layer 2.
    """
    layer = _NUMBERED.match(name)
    return layer.group() if layer else name.partition(".")[0]
