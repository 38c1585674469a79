"""Muon (arXiv 2502.16982): orthogonalised updates for the matrices between hidden layers, AdamW for all else.

torch's and timm's versions compute in bfloat16. On CPUs without instructions for it, which are most, that took three
seconds for a step of `lite`, more than three times as long as the rest of the step (docs/performance.md).
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
"""(a, b, c) of the polynomials a x + b x^3 + c x^5 that are applied in turn and take singular values in 0 .. 1 to about
1, from leloykun.github.io/ponder/muon-opt-coeffs."""

RMS_OF_ADAMW = 0.2
"""Root mean square of an AdamW update, in units of the learning rate (section 2.2 of the paper)."""


class Muon(torch.optim.Optimizer):
    """Muon for groups with `use_muon`, AdamW for the others; the updates of both have the same size.

    Args:
        momentum: of Muon, in Nesterov's form.
        betas: of AdamW.
        fused: AdamW in one kernel, as in torch; a `found_inf` other than 0 then skips the update on the device.
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
                group.setdefault(name, value)  # a state of timm's Muon has other options
            group["fused"] = self.defaults["fused"]  # depends on the precision of this run, not on that of the state
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
            step = self._muon_step if group["use_muon"] else self._adamw_step
            step(parameters, group)
        return loss

    def _muon_step(self, parameters: Sequence[Tensor], group: dict[str, Any]) -> None:
        found_inf = self._found_inf(group)
        is_finite = None if found_inf is None else found_inf == 0
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            average, gradient = state["momentum_buffer"], parameter.grad
            assert gradient is not None
            if is_finite is not None:
                gradient = gradient.where(is_finite, average)
            average.lerp_(gradient, 1 - group["momentum"])
            by_shape.setdefault(parameter.shape, []).append((parameter, gradient.lerp(average, group["momentum"])))
        for shape, members in by_shape.items():
            matrices = torch.stack([update.flatten(1) for _, update in members])
            size = group["lr"] * RMS_OF_ADAMW * max(matrices.shape[1:]) ** 0.5
            for (parameter, _), step in zip(members, orthogonalize(matrices), strict=True):
                moved = parameter * (1 - group["lr"] * group["weight_decay"]) - size * step.reshape(shape)
                parameter.copy_(moved if is_finite is None else moved.where(is_finite, parameter))

    def _adamw_step(self, parameters: Sequence[Tensor], group: dict[str, Any]) -> None:
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
            fused=group["fused"] or None,  # False would also switch off the multi-tensor version
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
    """The fused kernel reads the step count on the device; without it, reading it there would synchronize."""
    return parameter.device if group["fused"] else torch.device("cpu")


def orthogonalize(matrices: Float[Tensor, "matrix row column"]) -> Float[Tensor, "matrix row column"]:
    """Matrices with the same singular vectors and all singular values near 1 (0.85 .. 1.15).

    Singular values below 0.002 of the Frobenius norm stay smaller. The Newton-Schulz iteration is
    X <- a X + b X X' X + c X X' X X' X. Each factor before X is a polynomial of G = X X', so it runs on G, which has
    the size of the shorter side, and X is multiplied once at the end. G holds the squares of the singular values, for
    which bfloat16 is too coarse.
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
