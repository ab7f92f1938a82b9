"""Muon, an optimizer that trains a decoder in a fraction of the steps of Adam."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Optimizer):
    """Momentum with orthogonalized updates (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    All singular values of an update become about 1, so that directions with small gradients learn as fast as the
    dominant one. The gradients of a decoder of ReLU features have a dominant direction: the mean of the features, which
    is large since none of them is negative.

    Convolutions are treated as matrices of (outputs, inputs x height x width). Biases and other vectors are updated by
    Adam (Kingma & Ba 2015) at `adam_lr_ratio` times the learning rate, and so are matrices with more than `max_side`
    rows and columns, since the time to orthogonalize an update grows with the cube of the smaller of the two.

    Args:
        params: Parameters to optimize.
        lr: Learning rate: the spectral norm of the update of a matrix that is not tall.
        momentum: Decay of the running mean of the gradients, with Nesterov's lookahead.
        adam_lr_ratio: Learning rate of Adam over `lr`.
        betas: Coefficients of Adam.
        max_side: Largest number of rows or columns, whichever is smaller, of a matrix that is not updated by Adam.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-2,
        momentum: float = 0.95,
        adam_lr_ratio: float = 0.1,
        betas: tuple[float, float] = (0.9, 0.99),
        max_side: int = 2048,
    ):
        super().__init__(params, {"lr": lr, "momentum": momentum, "ratio": adam_lr_ratio, "betas": betas})
        self.max_side = max_side  # not in the groups, which resumed runs take from their checkpoint

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all parameters once, and return the loss of the closure if there is one."""
        loss = None
        if closure:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                orthogonal = 0 < _smaller_side(parameter) <= self.max_side
                update = self._update_orthogonal if orthogonal else self._update_adam
                update(parameter, parameter.grad, self.state[parameter], group)
        return loss

    def _update_orthogonal(self, parameter: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        """Apply the orthogonalized momentum, scaled by (rows / columns)^(1/2) for tall matrices."""
        if "mean" not in state:
            state["mean"] = torch.zeros_like(grad)
        mean = state["mean"]
        mean.lerp_(grad, 1 - group["momentum"])
        lookahead = grad.lerp(mean, group["momentum"])
        update = orthogonalize(lookahead.flatten(1)).view(grad.shape)
        rows, columns = len(grad), grad[0].numel()
        parameter.sub_(update, alpha=group["lr"] * max(1, rows / columns) ** 0.5)

    def _update_adam(self, parameter: Tensor, grad: Tensor, state: dict, group: dict) -> None:
        """Apply a step of Adam."""
        if "mean" not in state:
            state["mean"] = torch.zeros_like(grad)
            state["square"] = torch.zeros_like(grad)
        mean, square = state["mean"], state["square"]
        steps = state["steps"] = state.get("steps", 0) + 1
        beta1, beta2 = group["betas"]
        lr = group["lr"] * group["ratio"]
        mean.lerp_(grad, 1 - beta1)
        square.lerp_(grad.square(), 1 - beta2)
        deviation = (square / (1 - beta2**steps)).sqrt_().add_(1e-8)
        parameter.addcdiv_(mean, deviation, value=-lr / (1 - beta1**steps))


def _smaller_side(parameter: Tensor) -> int:
    """Return the number of rows or of columns of a parameter as a matrix, whichever is smaller; of a vector, 0."""
    if parameter.dim() < 2:
        return 0
    rows, columns = parameter.flatten(1).shape
    return min(rows, columns)


def orthogonalize(matrix: Tensor) -> Tensor:
    """Return about U V^T of a matrix U S V^T, with singular values in [0.7, 1.2].

    The result comes from five steps of a quintic Newton-Schulz iteration. Each step multiplies X by a polynomial of
    X X^T. All these polynomials commute, so that the iteration runs on the Gram matrix, which is several times smaller
    than X, and X is multiplied only once.
    """
    x = matrix.float()
    x = x / (x.norm() + 1e-7)
    is_tall = len(x) > x.shape[1]
    wide = x.T if is_tall else x
    gram = wide @ wide.T
    product = torch.eye(len(gram), device=gram.device)
    for _ in range(5):
        factor = torch.addmm(gram, gram, gram, beta=-4.775, alpha=2.0315)
        factor.diagonal().add_(3.4445)
        product = factor @ product
        gram = factor @ gram @ factor
    wide = product @ wide
    return (wide.T if is_tall else wide).to(matrix.dtype)
