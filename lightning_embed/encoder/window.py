"""Rules of attention: which of them are a window around each token, as the fast kernels of a GPU take it."""

from collections.abc import Callable, Hashable
from types import FunctionType
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

Rule = Callable[[int, int, Tensor, Tensor], Tensor]
"""(batch, head, query position, key position) -> whether the key is seen. Positions broadcast."""

_ROWS = 1024  # of a mask that is looked at, at a time


class Window(NamedTuple):
    """A token sees `left` tokens before itself and `right` after; -1: all of its text."""

    left: int
    right: int


FULL, CAUSAL = Window(-1, -1), Window(-1, 0)
_known: dict[Hashable, Window | None] = {}


def window_of(rule: Rule, length: int, broadcasts: bool = True) -> Window | None:
    """The window that a rule is for texts of at most `length` tokens; None: it is no window, or cannot be looked at.

    Every pair of positions is looked at, once for each rule and power of two: of rules with numbers only. One that reads
    a tensor or an object may change.
    """
    try:
        key = (_identity(rule), size := 1 << max(length - 1, 1).bit_length())
    except TypeError:
        return None
    if key not in _known:
        _known[key] = _measured(rule, size, broadcasts)
    return _known[key]


def seen_by(rule: Rule, query: Int[Tensor, " queries"], key: Int[Tensor, " keys"], broadcasts: bool) -> Tensor:
    """Which keys are seen, (queries, keys) or what broadcasts to it."""
    if broadcasts:
        return rule(0, 0, query[:, None], key[None])
    by_key = torch.vmap(rule, (None, None, None, 0))
    found: Tensor = torch.vmap(by_key, (None, None, 0, None))(0, 0, query, key)
    return found


def _measured(rule: Rule, size: int, broadcasts: bool) -> Window | None:
    place = torch.arange(size)
    first = seen_by(rule, place[:1], place, broadcasts).expand(1, size)[0]
    last = seen_by(rule, place[-1:], place, broadcasts).expand(1, size)[0]
    if not (first[0] and last[-1]):  # a token that does not see itself
        return None
    right, left = int(first.sum()) - 1, int(last.sum()) - 1
    for start in range(0, size, _ROWS):
        rows = place[start : start + _ROWS]
        distance = rows[:, None] - place
        if not torch.equal(
            seen_by(rule, rows, place, broadcasts).expand_as(distance), (distance <= left) & (-distance <= right)
        ):
            return None
    return Window(-1 if left == size - 1 else left, -1 if right == size - 1 else right)


def _identity(part: Any) -> Hashable:
    """What a rule is: its code, and the numbers and rules that it holds.

    Raises:
        TypeError: it holds anything else.
    """
    if isinstance(part, FunctionType):
        cells = tuple(_identity(cell.cell_contents) for cell in part.__closure__ or ())
        return part.__code__, cells, tuple(map(_identity, part.__defaults__ or ()))
    if isinstance(part, tuple):
        return tuple(map(_identity, part))
    if part is None or isinstance(part, (bool, int, float, str)):
        return type(part), part
    raise TypeError(part)
