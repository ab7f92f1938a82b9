"""Gatys: a picture optimized until its features fit content and style (Gatys, Ecker & Bethge, CVPR 2016)."""

import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from types import MappingProxyType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from adain.functional import statistics
from adain.functional.losses import Features, content_loss, gram_loss, total_variation
from adain.functional.statistics import StatisticsFn, at_least_float32, compute_statistics
from adain.methods.base import Alpha, Method, StyleCode
from adain.methods.progress import Progress, Stop
from adain.models.backbones import POOL, Backbone, Padding, Pooling
from adain.utils.checks import check_choice
from adain.utils.errors import OptimizationError

log = logging.getLogger(__name__)


OPTIMIZERS = {
    "lbfgs": lambda x, lr, history, momentum: torch.optim.LBFGS(
        [x], 1.0 if lr is None else lr, max_iter=1, history_size=history, tolerance_grad=0, tolerance_change=0
    ),
    "adam": lambda x, lr, history, momentum: torch.optim.Adam([x], 0.02 if lr is None else lr),
    "sgd": lambda x, lr, history, momentum: torch.optim.SGD([x], 1e-3 if lr is None else lr, momentum),
}
"""Of the pixels' moves, set as `Gatys` documents. L-BFGS goes one step, and one evaluation, at a time."""

COARSE, DRAFT = 0.05, 0.003  # of the loss, gained in ten steps: less is not worth a coarse size, or half precision

FIRST_STEP = 0.01  # of L-BFGS, a pixel's mean; torch's moves all pixels by 1 in sum, which half precision rounds away

MOST_HALVINGS = 5  # of a style whose code may serve any size of content

NEGLIGIBLE = 1e-6  # a loss that need not get lower

SUM_RATE = 1e-2  # of SGD, times half the number of values that the original form's content loss adds up

ENOUGH_STEPS = 10  # to expect a lower loss; the first ones of L-BFGS may lead astray

STARTS = ("content", "style", "noise")

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


class Gatys(Method):
    """Minimise content_weight L_content + style_weight L_style + tv_weight L_tv over the pixels (eq. 7).

    L_content compares feature maps, L_style Gram matrices. Two forms: `normalized` takes means, so that the weights
    hold at any size: L_content = sum of mean (F - P)^2 and L_style = sum of w_l |G - A|^2 with G = F F^T / (C H W);
    `original` is the paper's: 1/2 sum (F - P)^2 (eq. 1) and sum of w_l sum (G - A)^2 / (4 C^2 H^2 W^2) (eq. 4), each
    Gram matrix over its own H W. The paper's weights belong to a VGG whose activations are a hundred times larger.

    Above `coarsest` pixels it works from coarse to fine, each result upsampled as the next one's start (Gatys et al.,
    CVPR 2017): larger strokes, and fewer steps at the full size. Where `drafts` says so, steps are in bfloat16 until
    they get no further. Alpha blends the style's Gram matrices with the
    content's.

    Args:
        backbone: whose features are compared, a row of `adain.models.backbones.BACKBONES`.
        weights: of the backbone, as `adain.models.backbones.Backbone` takes them.
        pooling: in the backbone; average gives smoother pictures, the paper says.
        padding: in the backbone.
        content_layers: where the content is compared.
        content_layer_weights: one for each content layer; by default 1.
        style_layers: where the style is compared.
        style_layer_weights: one for each style layer; by default 1.
        content_weight: factor of the content loss.
        style_weight: factor of the style loss.
        tv_weight: factor of the total variation, the mean squared difference of neighbors.
        form: of the losses, see above.
        optimizer: L-BFGS needs the fewest steps by far.
        lr: of the optimizer; by default 1 for lbfgs, 0.02 for adam, 1e-3 for sgd, and 1e-2 for
            sgd with the original form, divided by half the number of values of the content features, as eq. 1 is a sum.
        history: of lbfgs, in steps.
        momentum: of sgd.
        steps: at each size, though coarse ones end once they stall; each is one pass through the backbone and back.
        tolerance: stop once ten steps at the full size lower the loss by no more than this share of it.
        init: where it starts: content, style, noise, or the result of a feed-forward method, by its name.
        seed: of the noise.
        coarsest: shorter side in pixels from which on it works coarse to fine; 0 for never.
        precondition: exponent p of the 1 / frequency^p that a step's spectrum is weighted with, which spares most of
            the steps; 0 for the pixels themselves.
        callback: called after each step; may raise `Stop`.
    """

    name = "gatys"
    iterative = True
    supports_masks = True

    def __init__(
        self,
        backbone: str = "vgg19",
        weights: str | None = None,
        pooling: Pooling = "max",
        padding: Padding = "reflect",
        content_layers: Sequence[str] = ("relu4_2",),
        content_layer_weights: Sequence[float] = (),
        style_layers: Sequence[str] = STYLE_LAYERS,
        style_layer_weights: Sequence[float] = (),
        content_weight: float = 1.0,
        style_weight: float = 5.0,
        tv_weight: float = 0.0,
        form: Literal["normalized", "original"] = "normalized",
        optimizer: Literal["lbfgs", "adam", "sgd"] = "lbfgs",
        lr: float | None = None,
        history: int = 50,
        momentum: float = 0.9,
        steps: int = 200,
        tolerance: float = 0.0,
        init: str = "content",
        seed: int = 0,
        coarsest: int = 256,
        precondition: float = 0.5,
        callback: Callable[[Progress], None] | None = None,
    ):
        super().__init__()
        check_choice("form", form, ("normalized", "original"))
        check_choice("optimizer", optimizer, OPTIMIZERS)
        settings = dict(locals())
        for name, least in {"steps": 1, "history": 1, "coarsest": 0}.items():
            if settings[name] < least:
                raise ValueError(f"{name} is at least {least}, not {settings[name]}")
        if not (content_layers and style_layers):
            raise ValueError("name at least one content layer and one style layer")
        self.arguments = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in settings.items()
            if name not in ("self", "__class__", "callback")
        }
        self.content_layers = _weighted("content", content_layers, content_layer_weights)
        self.style_layers = _weighted("style", style_layers, style_layer_weights)
        self.weights = content_weight, style_weight, tv_weight
        self.original = form == "original"
        self.steps, self.tolerance, self.init, self.seed, self.coarsest = steps, tolerance, init, seed, coarsest
        self.precondition = precondition
        self.rescale_rate = self.original and optimizer == "sgd" and lr is None
        self.build = partial(OPTIMIZERS[optimizer], lr=lr, history=history, momentum=momentum)
        self.callback = callback
        self.start = None if init in STARTS else _load(init)
        self.backbone = Backbone(backbone, (*content_layers, *style_layers), weights, padding, pooling)
        self.stride = 2 ** max(self.backbone.plan(layer).count(POOL) for layer in self.backbone.layers)

    def encode_style(self, style: Tensor) -> StyleCode:
        """Gram matrices (B, C, C) of the style and of its halvings, `<layer>/<halvings>`."""
        code, scaled = StyleCode(), at_least_float32(style)
        for halvings in range(MOST_HALVINGS + 1 if self.coarsest else 1):
            if not halvings or min(scaled.shape[2:]) >= 4 * self.stride:
                scaled = F.interpolate(scaled, scale_factor=0.5 ** bool(halvings), mode="bilinear", antialias=True)
                features = self._features(scaled)
            code |= {f"{layer}/{halvings}": statistics.gram(features[layer]) for layer in self.style_layers}
        if self.init == "style":
            code["picture"] = _resize(at_least_float32(style), (512, 512))  # of one shape, so that several can be mixed
        elif self.start:
            code |= {f"start/{name}": value for name, value in self.start.encode_style(style).items()}
        return code

    def guide(self, codes: Sequence[StyleCode], alphas: Sequence[float], masks: Sequence[Tensor]) -> StyleCode:
        """Codes stacked, with their strengths (R,) and masks (R, 1, H, W): guided Gram matrices (CVPR 2017, eq. 5)."""
        code = {name: torch.cat([code[name] for code in codes]) for name in codes[0]}
        return {**code, "alpha": torch.tensor(alphas), "mask": torch.cat([*masks])}

    def stylize(
        self,
        content: Tensor,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """Each content optimized for itself, from coarse to fine."""
        with torch.inference_mode(False):
            code = {name: value.clone() for name, value in code.items()}
            contents = at_least_float32(content).clone().split(1)
            if "mask" in code:  # its styles side by side, in each picture
                down, right = (a - b for a, b in zip(content.shape[2:], code["mask"].shape[2:], strict=True))
                code["mask"] = F.pad(code["mask"], (0, right, 0, down))
                return torch.cat([self._optimize(one, code, code["alpha"]) for one in contents])
            codes = [{name: gram[i % len(gram)][None] for name, gram in code.items()} for i in range(len(content))]
            pairs = zip(contents, codes, strict=True)
            return torch.cat([self._optimize(*pair, torch.tensor([alpha])) for pair in pairs])

    def _optimize(self, content: Tensor, code: StyleCode, alpha: Tensor) -> Tensor:
        """One picture (1, 3, H, W) at each of its sizes, smallest first, in styles (R, ...), alphas (R,)."""
        side, picture, improved = min(content.shape[2:]), None, False
        # Below two strides the deepest layer has nothing to reflect.
        possible = int(math.log2(side / (2 * self.stride)))
        halvings = max(0, min(possible, math.ceil(math.log2(side / self.coarsest)))) if self.coarsest else 0
        for k in range(halvings, -1, -1):
            size = [round(s / 2**k) for s in content.shape[2:]]
            scaled = _resize(content, size)
            with torch.no_grad():
                features = self._features(scaled)
            regions = self._regions(features, code.get("mask"))
            grams = {}
            for layer in self.style_layers:
                own = statistics.gram(_within(features, regions, layer))
                grams[layer] = own.lerp(code[f"{layer}/{min(k, MOST_HALVINGS)}"], alpha.to(own).view(-1, 1, 1))
            picture = self._start(scaled, code) if picture is None else _resize(picture, size)
            try:
                picture, better = self._descend(picture, features, grams, regions, last=not k)
            except Stop as stop:
                return _resize(stop.picture, content.shape[2:])
            improved = improved or better
        if not improved and self.steps >= ENOUGH_STEPS and alpha.any():  # at alpha 0 the content itself is the best
            raise OptimizationError(
                "no step lowered the loss; use another --gatys.optimizer, a lower --gatys.lr, or other weights"
            )
        assert picture is not None
        return picture

    def _regions(self, features: Features, mask: Tensor | None) -> Features:
        """What each layer's features are multiplied with, (R, 1, h, w): roots of weights whose mean over space is 1."""
        weights = dict[str, Tensor]()
        if mask is None:
            return weights
        for layer in self.style_layers:
            here = F.interpolate(mask.to(features[layer].device).float(), features[layer].shape[2:], mode="area")
            weights[layer] = (here / here.mean((2, 3), keepdim=True).clamp(min=1e-6)).sqrt().to(features[layer].dtype)
        return weights

    def _start(self, content: Tensor, code: StyleCode) -> Tensor:
        if self.init == "noise":
            generator = torch.Generator().manual_seed(self.seed)
            return torch.rand(content.shape, generator=generator).to(content)
        if self.init == "style":
            return _resize(code["picture"][:1], content.shape[2:])
        if self.start is None:
            return content
        stride, size = self.start.stride, content.shape[2:]
        fitting = _resize(content, [max(2, round(side / stride)) * stride for side in size]).to(
            self.backbone.mean.dtype
        )
        own = {name.removeprefix("start/"): value[:1] for name, value in code.items() if name.startswith("start/")}
        with torch.no_grad():
            return _resize(self.start.stylize(fitting, own).to(content.dtype).clamp(0, 1), size)

    def _features(self, picture: Tensor) -> Features:
        return self.backbone(picture.to(self.backbone.mean.dtype, memory_format=torch.channels_last))

    def _descend(
        self, start: Tensor, content: Features, grams: Features, regions: Features, last: bool
    ) -> tuple[Tensor, bool]:
        """The best of all steps, and whether any is better than the start: L-BFGS leaps astray, and comes back.

        A draft in bfloat16 goes before, until it stalls; then float32 goes on, but only at the `last` size.
        """
        moves = torch.zeros_like(start).requires_grad_()
        spectrum = _spectrum(start, self.precondition)
        optimizer, best, kept = self.build(moves), math.inf, start
        seen, terms, totals, draft = start, start.new_zeros(4), list[float](), self.bf16_warmup

        def loss() -> Tensor:
            nonlocal seen, terms
            optimizer.zero_grad()
            picture = start + torch.fft.irfft2(torch.fft.rfft2(moves) * spectrum, s=start.shape[2:])
            with torch.autocast(start.device.type, torch.bfloat16, enabled=draft):
                losses = self.losses(picture, content, grams, regions)
            losses.sum().backward()
            seen, terms = picture.detach(), torch.cat([losses.sum()[None], losses]).detach()
            return terms[0]

        (group,) = optimizer.param_groups
        rate, first_total, improved = group["lr"], None, False
        if self.rescale_rate:
            rate = SUM_RATE / sum(content[layer].numel() / 2 for layer in self.content_layers)
        for step in range(1, self.steps + 1):
            first = step == 1 and isinstance(optimizer, torch.optim.LBFGS)
            group["lr"] = rate * FIRST_STEP * moves.numel() if first else rate
            optimizer.step(loss)  # type: ignore[arg-type]
            total, content_part, style_part, tv_part = terms.tolist()
            if not math.isfinite(total):
                if kept is start:
                    raise ValueError(f"the loss is not finite at step {step}; lower the weights")
                log.warning("the loss is not finite at step %d, the best before it is kept; lower lr", step)
                break
            first_total = total if first_total is None else first_total
            improved = improved or total < first_total or total < NEGLIGIBLE
            if total < best:
                best, kept = total, seen
            totals.append(best)
            if self.callback:
                place = step, self.steps, min(start.shape[2:])
                self.callback(Progress(*place, total, content_part, style_part, tv_part, kept))
            tolerance = COARSE if not last else DRAFT if draft else self.tolerance
            if tolerance and len(totals) > 10 and totals[-11] - best < tolerance * totals[-11]:
                if not (draft and last):
                    break
                draft, best, totals, first_total = False, math.inf, [], None
        return kept, improved

    def losses(
        self, picture: Tensor, content: Features, grams: Features, regions: Features = MappingProxyType({})
    ) -> Tensor:
        """The weighted content, style and total variation loss (3,) of a picture (1, 3, H, W), in one style or more.

        `grams` (R, C, C) by layer; `regions` (R, 1, h, w), if there are any, multiply the features before.
        """
        features = self._features(picture)
        content_part, style_part, tv_part = picture.new_zeros(3).unbind()
        for layer, weight in self.content_layers.items():
            scale = content[layer].numel() / 2 if self.original else 1
            content_part = content_part + weight * scale * content_loss(features[layer], content[layer]).sum()
        for layer, weight in self.style_layers.items():
            scale = 1 / 4 if self.original else 1
            style_part = style_part + weight * scale * gram_loss(_within(features, regions, layer), grams[layer]).sum()
        if self.weights[2]:
            tv_part = total_variation(picture).sum()
        terms = torch.stack([content_part, style_part, tv_part])
        return terms * terms.new_tensor(self.weights)


def _spectrum(picture: Tensor, exponent: float) -> Tensor:
    """1 / frequency^exponent, (H, W / 2 + 1), with a mean square of 1, as `torch.fft.rfft2` orders them.

    Pictures have most of their energy at low frequencies, and so do the steps that improve them: this is to L-BFGS
    what a better guess of the inverse Hessian would be.
    """
    height, width = picture.shape[2:]
    rows, columns = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)
    weights = torch.hypot(rows, columns).clamp(min=1 / max(height, width)) ** -exponent
    return (weights / weights.square().mean().sqrt()).to(picture)


def _within(features: Features, regions: Features, layer: str) -> Tensor:
    return features[layer] * regions[layer] if regions else features[layer]


def _load(init: str) -> Method:
    from adain.methods import weights  # which knows all methods, this one too

    check_choice("init", init, (*STARTS, *(name for name, kind in weights.METHODS.items() if kind.trained)))
    return weights.load(init)


def _weighted(what: str, layers: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    if weights and len(weights) != len(layers):
        raise ValueError(f"{len(weights)} {what} layer weights for {len(layers)} layers; give one for each, or none")
    return dict(zip(layers, weights or [1.0] * len(layers), strict=True))


def _resize(picture: Tensor, size: Sequence[int]) -> Tensor:
    picture = picture.detach()
    if list(picture.shape[2:]) != list(size):
        picture = F.interpolate(picture, list(size), mode="bicubic", antialias=True)
    return picture.contiguous()  # as L-BFGS wants it
