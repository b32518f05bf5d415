"""`optimizer=muon`."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import torch
from torch import nn
from torch.optim import AdamW, Optimizer


class Muon(Optimizer):
    """Muon on the matrices of the layers, AdamW on all else: embeddings, norms, biases, heads.

        B <- momentum B + (1 - momentum) G,     W <- (1 - lr decay) W - lr scale NewtonSchulz(G + momentum (B - G))

    Muon (Jordan 2024, kellerjordan.github.io/posts/muon) steps by a matrix whose singular values are all near one. The
    step of a matrix is that of torch.optim.Muon. With `adjust_lr_fn=match_rms_adamw`, its scale is 0.2 sqrt(longest side)
    (Liu et al. 2025, arXiv 2502.16982), so that one learning rate, that of AdamW, fits both. One optimiser with one state:
    schedules, clipping and checkpoints see its groups as those of any other.

    Args:
        params: groups, each with `is_matrix` (see `ParameterGroups.of`), or parameters, of which those with two
            dimensions are matrices.
        lr: learning rate of the matrices.
        adamw_lr: learning rate of all else; None: lr.
        weight_decay: decoupled weight decay of both.
        momentum: of Muon, in [0, 1).
        nesterov: Nesterov's momentum.
        ns_steps: steps of the Newton-Schulz iteration.
        adjust_lr_fn: match_rms_adamw, or original: sqrt(max(1, rows / columns)).
        betas: of AdamW.
        eps: of AdamW.
        fused: of AdamW.

    Raises:
        ValueError: as torch's.
    """

    takes_matrices: ClassVar[bool] = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 5e-5,
        *,
        adamw_lr: float | None = None,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: str = "match_rms_adamw",
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-8,
        fused: bool | None = None,
    ) -> None:
        muon: dict[str, Any] = {
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        adamw: dict[str, Any] = {
            "lr": lr if adamw_lr is None else adamw_lr,
            "betas": tuple(betas),
            "eps": eps,
            "fused": fused,
        }
        groups = _groups(params)
        matrices, others = ([group for group in groups if group["is_matrix"] is kind] for kind in (True, False))
        self._parts: dict[bool, Optimizer] = {}
        if matrices:
            self._parts[True] = torch.optim.Muon(matrices, lr=lr, weight_decay=weight_decay, **muon)
        if others:
            self._parts[False] = AdamW(others, weight_decay=weight_decay, **adamw)
        super().__init__([group for part in self._parts.values() for group in part.param_groups], {})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for kind, part in self._parts.items():
            # state and groups are those of this object, which load_state_dict replaces
            part.state = self.state
            part.param_groups = [group for group in self.param_groups if group["is_matrix"] is kind]
            part.step()
        return loss


def _groups(params: Iterable[Any]) -> list[dict[str, Any]]:
    given = list(params)
    if given and isinstance(given[0], dict):
        return given
    matrices = [p for p in given if p.ndim == 2]
    others: list[nn.Parameter] = [p for p in given if p.ndim != 2]
    kinds = ({"params": matrices, "is_matrix": True}, {"params": others, "is_matrix": False})
    return [group for group in kinds if group["params"]]
