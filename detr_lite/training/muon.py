"""Muon (arXiv 2502.16982): orthogonal steps for the matrices between hidden layers, AdamW's steps for all else.

Ours because torch's and timm's compute in bfloat16: processors without instructions for it, most of them, took three
seconds for a step of `lite`, more than three times as long as for all the rest of it (docs/performance.md).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.adamw import adamw

COEFFICIENTS = (
    (4.0848, -6.8946, 2.9270),
    (3.9505, -6.3029, 2.6377),
    (3.7418, -5.5913, 2.3037),
    (2.8769, -3.1427, 1.2046),
    (2.8366, -3.0525, 1.2012),
)
"""Of the polynomials a x + b x^3 + c x^5, one after the other, that take numbers in 0 .. 1 to about 1; those of
leloykun.github.io/ponder/muon-opt-coeffs."""

AS_LARGE_AS_ADAMW = 0.2
"""Root mean square of a number's step, in rates, that AdamW's steps usually have (section 2.2 of the paper)."""


class Muon(torch.optim.Optimizer):
    """Groups say with `use_muon` which of the two they get. One rate serves both, as their steps are of equal size.

    Args:
        momentum: of Muon, as Nesterov's.
        betas: of AdamW.
        fused: AdamW in one kernel, as torch's; with it a `found_inf` that is not 0 leaves weights and momentum alone.
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]],
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        fused: bool = False,
    ) -> None:
        super().__init__(groups, {"momentum": momentum, "betas": betas, "eps": eps, "fused": fused})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, value in self.defaults.items():
                group.setdefault(name, value)  # timm's Muon, of older checkpoints, has others
            group["fused"] = self.defaults["fused"]  # goes with this run's precision, not with that of the state
            for parameter in group["params"]:
                if "step" in self.state.get(parameter, {}):
                    step = torch.as_tensor(self.state[parameter]["step"], dtype=torch.float32)
                    self.state[parameter]["step"] = step.to(_step_device(parameter, group))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            step = self._step_of_matrices if group["use_muon"] else self._step_of_adamw
            step(parameters, group)
        return loss

    def _step_of_matrices(self, parameters: Sequence[Tensor], group: dict[str, Any]) -> None:
        found_inf = self._found_inf(group)
        is_good = None if found_inf is None else found_inf == 0
        same: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            average, gradient = state["momentum_buffer"], parameter.grad
            assert gradient is not None
            if is_good is not None:
                gradient = gradient.where(is_good, average)
            average.lerp_(gradient, 1 - group["momentum"])
            same.setdefault(parameter.shape, []).append((parameter, gradient.lerp(average, group["momentum"])))
        for shape, members in same.items():
            matrices = torch.stack([update.flatten(1) for _, update in members])
            size = group["lr"] * AS_LARGE_AS_ADAMW * max(matrices.shape[1:]) ** 0.5
            for (parameter, _), step in zip(members, orthogonal(matrices), strict=True):
                moved = parameter * (1 - group["lr"] * group["weight_decay"]) - size * step.reshape(shape)
                parameter.copy_(moved if is_good is None else moved.where(is_good, parameter))

    def _step_of_adamw(self, parameters: Sequence[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), device=_step_device(parameter, group))
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        beta1, beta2 = group["betas"]
        adamw(
            list(parameters),
            [parameter.grad for parameter in parameters if parameter.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"] or None,  # False would be the slow one, parameter by parameter
            found_inf=self._found_inf(group),
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _found_inf(self, group: dict[str, Any]) -> Tensor | None:
        return getattr(self, "found_inf", None) if group["fused"] else None


def _step_device(parameter: Tensor, group: dict[str, Any]) -> torch.device:
    """The fused kernel reads the number of steps on the device; without it, reading it there would be a wait."""
    return parameter.device if group["fused"] else torch.device("cpu")


def orthogonal(matrices: Float[Tensor, "matrix row column"]) -> Float[Tensor, "matrix row column"]:
    """The same singular vectors, with singular values of about 1: 0.85 .. 1.15, from 0.002 of the matrix's norm up.

    Newton and Schulz's iteration X <- a X + b X X' X + c X X' X X' X. All of its factors before X are polynomials of
    G = X X', so the iteration is made on G, which is as small as the shorter side, and X is multiplied once, in the
    end. G has the singular values' squares, for which bfloat16 would be too coarse.
    """
    is_tall = matrices.shape[1] > matrices.shape[2]
    wide = matrices.mT if is_tall else matrices
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    gram: Tensor = wide @ wide.mT
    product: Tensor | None = None
    for number, (a, b, c) in enumerate(COEFFICIENTS, 1):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor if product is None else factor @ product
        if number < len(COEFFICIENTS):
            gram = factor @ gram @ factor
    assert product is not None
    result: Tensor = product @ wide
    return result.mT if is_tall else result
