"""Muon: the optimizer that trains a decoder in a fraction of Adam's steps."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Momentum whose every update is made orthogonal (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    All singular values of an update become about 1, so that directions with small gradients learn as fast as the one
    that dominates. A decoder of ReLU features is dominated by one: their mean, which no entry falls below 0 of.

    Convolutions are matrices of (outputs, inputs x height x width) here. Biases and other vectors take Adam's step
    (Kingma & Ba 2015) at `vector_lr_ratio` of the rate.

    Args:
        params: to optimize.
        lr: spectral norm of a matrix's update.
        momentum: of the gradient's running mean, which is looked ahead of (Nesterov).
        vector_lr_ratio: the vectors' rate over `lr`.
        betas: Adam's, for the vectors.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-2,
        momentum: float = 0.95,
        vector_lr_ratio: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.99),
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "ratio": vector_lr_ratio, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One update of all parameters; returns the closure's loss."""
        with torch.enable_grad():
            loss = closure() if closure else None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                update = self._matrix if parameter.dim() > 1 else self._vector
                update(parameter, parameter.grad, self.state[parameter], group)
        return loss

    def _matrix(self, parameter: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        if "mean" not in state:
            state["mean"] = torch.zeros_like(grad)
        mean = state["mean"]
        mean.lerp_(grad, 1 - group["momentum"])
        update = orthogonalize(grad.lerp(mean, group["momentum"]).flatten(1)).view(grad.shape)
        rows, columns = len(grad), grad[0].numel()
        parameter.sub_(update, alpha=group["lr"] * max(1, rows / columns) ** 0.5)

    def _vector(self, parameter: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        if "mean" not in state:
            state["mean"], state["square"] = torch.zeros_like(grad), torch.zeros_like(grad)
        mean, square = state["mean"], state["square"]
        steps = state["steps"] = state.get("steps", 0) + 1
        (beta1, beta2), rate = group["betas"], group["lr"] * group["ratio"]
        mean.lerp_(grad, 1 - beta1)
        square.lerp_(grad.square(), 1 - beta2)
        scale = (square / (1 - beta2**steps)).sqrt_().add_(1e-8)
        parameter.addcdiv_(mean, scale, value=-rate / (1 - beta1**steps))


def orthogonalize(matrix: Tensor) -> Tensor:
    """About U V^T of a matrix U S V^T, singular values in [0.7, 1.2]: five steps of a quintic Newton-Schulz iteration.

    Each step multiplies X by a polynomial of X X^T. All of them commute, so that the iteration runs on the Gram matrix,
    which is several times smaller than X, and X is multiplied once.
    """
    x = matrix.float()
    x = x / (x.norm() + 1e-7)
    wide = x if len(x) <= x.shape[1] else x.T
    gram = wide @ wide.T
    product = torch.eye(len(gram), device=gram.device)
    for _ in range(5):
        factor = torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315)
        factor.diagonal().add_(3.4445)
        product = factor @ product
        gram = factor @ gram @ factor
    wide = product @ wide
    return (wide if len(x) <= x.shape[1] else wide.T).to(matrix.dtype)
