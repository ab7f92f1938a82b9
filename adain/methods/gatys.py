"""Gatys: an image is optimized until its features match content and style (Gatys, Ecker & Bethge, CVPR 2016)."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from adain.functional import statistics
from adain.functional.losses import Features
from adain.functional.statistics import StatisticsFn, at_least_float32, compute_statistics
from adain.methods.base import Alpha, Method, StyleCode
from adain.methods.gatys_objective import Objective
from adain.methods.pixel_descent import OPTIMIZERS, Descent, DescentOptions, OptimizerName
from adain.methods.progress import Progress, Stop
from adain.models.backbones import POOL, Backbone, Padding, Pooling
from adain.utils.checks import check_choice
from adain.utils.errors import OptimizationError

FORMS = ("normalized", "original")

STYLE_DISTANCES = ("squared", "norm")

STARTS = ("content", "style", "noise", "gaussian")

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

MAX_HALVINGS = 5  # a style code contains this many halvings of the style, whatever the size of the content

START_SIZE = (512, 512)  # of a style image in a style code; one size for all, so that codes can be averaged

SUM_LR = 1e-2  # learning rate of SGD, times half the number of values that the original form's content loss sums up

MIN_STEPS = 10  # steps after which a lower loss can be expected; the first steps of L-BFGS may increase it


class Gatys(Method):
    """Minimize content_weight L_content + style_weight L_style + tv_weight L_tv over the pixels (eq. 7).

    L_content compares feature maps F and P, and L_style compares Gram matrices G and A. There are two forms:

    - `normalized` uses means, so that the weights are valid for any size. L_content is the sum of mean (F - P)^2.
      L_style is the sum of w_l |G - A|^2 with G = F F^T / (C H W).
    - `original` is the form of the paper. L_content is 1/2 sum (F - P)^2 (eq. 1). L_style is the sum of
      w_l sum (G - A)^2 / (4 C^2 H^2 W^2) (eq. 4), where each Gram matrix has its own H and W.

    The weights of the paper belong to a VGG whose activations are a hundred times larger.

    Images above `coarsest` pixels are optimized from coarse to fine. Each result is upsampled and starts the next size
    (Gatys et al., CVPR 2017). This gives larger strokes, and needs fewer steps at the full size. With `bf16_warmup`,
    steps run in bfloat16 until the loss stalls. Alpha blends the Gram matrices of the style with those of the content.

    Args:
        backbone: Network whose features are compared; `adain list` shows the names.
        weights: Weights of the backbone: `embedded` (only vgg19), `imagenet` (torchvision's, downloaded), `random`, or
            a file; by default `embedded` where available, otherwise `imagenet`.
        pooling: Pooling in the backbone. According to the paper, `average` gives more appealing images.
        padding: Padding in the backbone.
        content_layers: Layers of the content loss.
        content_layer_weights: Factors of the content layers, one for each; by default 1.
        style_layers: Layers of the style loss.
        style_layer_weights: Factors of the style layers, one for each; by default 1.
        content_weight: Factor of the content loss.
        style_weight: Factor of the style loss.
        tv_weight: Factor of the total variation, the mean squared difference of neighboring pixels.
        form: Form of the losses: `normalized` uses means, `original` uses the sums of the paper.
        style_distance: Distance of the Gram matrices of a layer: `squared`, as in the paper, or `norm`, its square
            root.
        optimizer: Optimizer of the pixels. L-BFGS needs by far the fewest steps.
        lr: Learning rate; by default 1 for lbfgs, 0.02 for adam, 1e-3 for sgd, and for sgd with the original form, 1e-2
            divided by half the number of values of the content features, because eq. 1 is a sum.
        history: Number of steps that lbfgs remembers.
        momentum: Momentum of sgd.
        steps: Number of steps at each size, each one forward and backward pass through the backbone. Coarse sizes end
            earlier if the loss stalls.
        tolerance: Stop when ten steps at the full size lower the loss by no more than this fraction.
        init: Image to start from: content, style, noise (uniform), gaussian (noise of mean 0.5 and standard deviation
            0.25), or the result of a feed-forward method, by its name.
        seed: Seed of the noise.
        coarsest: Shorter side in pixels above which images are optimized from coarse to fine; 0 disables this.
        precondition: Exponent p of the preconditioner, which scales each step by 1 / frequency^p in the Fourier
            domain, so that fewer steps are needed; 0 optimizes the pixels directly.
        callback: Function that is called after each step. It may raise `Stop`.

    Raises:
        ValueError: Unknown choices, or values out of range.
    """

    name = "gatys"
    code_arguments = (
        *("backbone", "weights", "pooling", "padding"),
        *("content_layers", "style_layers"),  # the deepest layer limits how often a style is halved
        *("init", "coarsest"),
    )
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
        style_distance: Literal["squared", "norm"] = "squared",
        optimizer: OptimizerName = "lbfgs",
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
        check_choice("form", form, FORMS)
        check_choice("style_distance", style_distance, STYLE_DISTANCES)
        check_choice("optimizer", optimizer, OPTIMIZERS)
        _check_at_least("steps", steps, 1)
        _check_at_least("history", history, 1)
        _check_at_least("coarsest", coarsest, 0)
        _check_at_least("content_weight", content_weight, 0)
        _check_at_least("style_weight", style_weight, 0)
        _check_at_least("tv_weight", tv_weight, 0)
        _check_layers(content_layers, style_layers)
        self.arguments = {
            "backbone": backbone,
            "weights": weights,
            "pooling": pooling,
            "padding": padding,
            "content_layers": list(content_layers),
            "content_layer_weights": list(content_layer_weights),
            "style_layers": list(style_layers),
            "style_layer_weights": list(style_layer_weights),
            "content_weight": content_weight,
            "style_weight": style_weight,
            "tv_weight": tv_weight,
            "form": form,
            "style_distance": style_distance,
            "optimizer": optimizer,
            "lr": lr,
            "history": history,
            "momentum": momentum,
            "steps": steps,
            "tolerance": tolerance,
            "init": init,
            "seed": seed,
            "coarsest": coarsest,
            "precondition": precondition,
        }
        self.objective = Objective(
            content_layers=_layer_weights("content", content_layers, content_layer_weights),
            style_layers=_layer_weights("style", style_layers, style_layer_weights),
            content_weight=content_weight,
            style_weight=style_weight,
            tv_weight=tv_weight,
            original=form == "original",
            squared=style_distance == "squared",
        )
        self.descent_options = DescentOptions(optimizer, lr, history, momentum, steps, tolerance, precondition)
        self.steps = steps
        self.init = init
        self.seed = seed
        self.coarsest = coarsest
        self.callback = callback
        self.start = None if init in STARTS else _load_start_method(init)
        self.backbone = Backbone(backbone, (*content_layers, *style_layers), weights, padding, pooling)
        self.stride = max(2 ** self.backbone.plan(layer).count(POOL) for layer in self.backbone.layers)

    def encode_style(self, style: Tensor) -> StyleCode:
        """Return Gram matrices (B, C, C) of the style and of its halvings as `<layer>/<halvings>`."""
        code: StyleCode = {}
        scaled = at_least_float32(style)
        features = self._features(scaled)
        for halvings in range(MAX_HALVINGS + 1 if self.coarsest else 1):
            if halvings > 0 and min(scaled.shape[2:]) >= 4 * self.stride:
                scaled = F.interpolate(scaled, scale_factor=0.5, mode="bilinear", antialias=True)
                features = self._features(scaled)
            for layer in self.objective.style_layers:
                code[f"{layer}/{halvings}"] = statistics.gram(features[layer])
        if self.init == "style":
            code["picture"] = _resize(at_least_float32(style), START_SIZE)
        elif self.start:
            for name, value in self.start.encode_style(style).items():
                code[f"start/{name}"] = value
        return code

    def guide(self, codes: Sequence[StyleCode], alphas: Sequence[float], masks: Sequence[Tensor]) -> StyleCode:
        """Return stacked style codes for guided Gram matrices (Gatys et al., CVPR 2017, eq. 5).

        The result also contains the strengths `alpha` (R,) and the masks `mask` (R, 1, H, W) of the R regions.
        """
        code = {name: torch.cat([code[name] for code in codes]) for name in codes[0]}
        code["alpha"] = torch.tensor(alphas, dtype=torch.float32)
        code["mask"] = torch.cat([*masks])
        return code

    def stylize(
        self,
        content: Tensor,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """Optimize each content image separately, from coarse to fine. See `Method.stylize` for the arguments.

        Raises:
            OptimizationError: No step lowered the loss.
            ValueError: The loss is not finite.
        """
        with torch.inference_mode(False):
            code = {name: value.clone() for name, value in code.items()}  # clones can be used by autograd
            contents = at_least_float32(content).clone().split(1)
            results = []
            if "mask" in code:  # all styles apply to every image
                code["mask"] = _pad_to(code["mask"], content.shape[2:])
                for one in contents:
                    results.append(self._optimize(one, code, code["alpha"]))
                return torch.cat(results)
            alphas = torch.as_tensor(alpha, dtype=torch.float32).expand(len(content))
            for i, one in enumerate(contents):
                own_code = {name: value[i % len(value)][None] for name, value in code.items()}
                results.append(self._optimize(one, own_code, alphas[i : i + 1]))
            return torch.cat(results)

    def losses(
        self, image: Tensor, content: Features, grams: Features, regions: Features = MappingProxyType({})
    ) -> Tensor:
        """Return the weighted content, style, and total variation loss, (3,).

        Args:
            image: Image (1, 3, H, W).
            content: Features of the content.
            grams: Target Gram matrices (R, C, C) by layer, for R regions.
            regions: Factors of the features in each region (R, 1, h, w) by layer, if there are masks; see
                `Objective.region_factors`.
        """
        return self.objective.losses(image, self._features(image), content, grams, regions)

    def _optimize(self, content: Tensor, code: StyleCode, alpha: Tensor) -> Tensor:
        """Optimize one image (1, 3, H, W) at each of its sizes, in styles (R, ...) with strengths (R,)."""
        full_size = content.shape[2:]
        image = None
        improved = False
        for halvings in range(self._max_halvings(min(full_size)), -1, -1):
            size = [round(side / 2**halvings) for side in full_size]
            scaled = _resize(content, size)
            with torch.no_grad():
                features = self._features(scaled)
            regions = self.objective.region_factors(features, code.get("mask"))
            styles = self.style_grams(code, halvings)
            grams = self.objective.target_grams(features, styles, regions, alpha)
            start = self._start(scaled, code) if image is None else _resize(image, size)
            loss_fn = partial(self.losses, content=features, grams=grams, regions=regions)
            options = self._scaled_options(features)
            descent = Descent(start, loss_fn, options, self.bf16_warmup, halvings == 0, self.callback)
            try:
                image, improved_here = descent.run()
            except Stop as stop:
                return _resize(stop.picture, full_size)
            improved = improved or improved_here
        # At alpha 0, the content itself is optimal.
        if not improved and self.steps >= MIN_STEPS and alpha.any():
            raise OptimizationError(
                "no step lowered the loss; use another --gatys.optimizer, a lower --gatys.lr, or other weights"
            )
        assert image is not None
        return image

    def _max_halvings(self, side: int) -> int:
        """Return how often an image with this shorter side is halved for its coarsest size."""
        if not self.coarsest:
            return 0
        wanted = math.ceil(math.log2(side / self.coarsest))
        # Below two strides, the deepest layer is too small for reflection padding.
        possible = int(math.log2(side / (2 * self.stride)))
        return max(0, min(possible, wanted))

    def style_grams(self, code: StyleCode, halvings: int = 0) -> dict[str, Tensor]:
        """Return the Gram matrices (R, C, C) by layer that a style code has for a number of halvings of the style."""
        known = min(halvings, MAX_HALVINGS)
        return {layer: code[f"{layer}/{known}"] for layer in self.objective.style_layers}

    def _start(self, content: Tensor, code: StyleCode) -> Tensor:
        """Return the image to start from, with the size of `content`."""
        if self.init in ("noise", "gaussian"):
            generator = torch.Generator().manual_seed(self.seed)
            if self.init == "noise":
                noise = torch.rand(content.shape, generator=generator, dtype=torch.float32)
            else:
                noise = 0.5 + 0.25 * torch.randn(content.shape, generator=generator, dtype=torch.float32)
            return noise.to(content)
        if self.init == "style":
            return _resize(code["picture"][:1], content.shape[2:])
        if self.start is None:
            return content
        return self._feed_forward_start(self.start, content, code)

    def _feed_forward_start(self, method: Method, content: Tensor, code: StyleCode) -> Tensor:
        """Return the result of a feed-forward method, whose style code is part of `code`."""
        size = content.shape[2:]
        stride = method.stride
        fitting_size = [max(2, round(side / stride)) * stride for side in size]
        resized = _resize(content, fitting_size).to(self.backbone.mean.dtype)
        prefix = "start/"
        method_code = {}
        for name, value in code.items():
            if name.startswith(prefix):
                method_code[name.removeprefix(prefix)] = value[:1]
        with torch.no_grad():
            stylized = method.stylize(resized, method_code)
            return _resize(stylized.to(content.dtype).clamp(0, 1), size)

    def _scaled_options(self, content: Features) -> DescentOptions:
        """Return the options of the descent. The original form scales the default learning rate of SGD to the size."""
        options = self.descent_options
        if not self.objective.original or options.optimizer != "sgd" or options.lr is not None:
            return options
        lr = SUM_LR / sum(content[layer].numel() / 2 for layer in self.objective.content_layers)
        return replace(options, lr=lr)

    def _features(self, image: Tensor) -> Features:
        return self.backbone(image.to(self.backbone.mean.dtype, memory_format=torch.channels_last))


def _check_at_least(name: str, value: float, least: int) -> None:
    if not value >= least:  # NaN is refused, too
        raise ValueError(f"{name} must be at least {least}, got {value}")


def _check_layers(content_layers: Sequence[str], style_layers: Sequence[str]) -> None:
    if not content_layers or not style_layers:
        raise ValueError(
            "Expected at least one content layer and one style layer, "
            f"got {len(content_layers)} content layers and {len(style_layers)} style layers"
        )


def _layer_weights(what: str, layers: Sequence[str], weights: Sequence[float]) -> dict[str, float]:
    """Return the weight of each layer by its name."""
    if weights and len(weights) != len(layers):
        raise ValueError(f"Expected {len(layers)} {what} layer weights (one per layer), got {len(weights)}")
    return dict(zip(layers, weights or [1.0] * len(layers), strict=True))


def _load_start_method(init: str) -> Method:
    """Load the feed-forward method whose result is the image to start from."""
    from adain.methods import weights  # imports all methods, including this one

    trained = [name for name, kind in weights.METHODS.items() if kind.trained]
    check_choice("init", init, (*STARTS, *trained))
    return weights.load(init)


def _pad_to(mask: Tensor, size: Sequence[int]) -> Tensor:
    """Pad a mask with zeros at the bottom and right to the given height and width."""
    down = size[0] - mask.shape[2]
    right = size[1] - mask.shape[3]
    return F.pad(mask, (0, right, 0, down))


def _resize(image: Tensor, size: Sequence[int]) -> Tensor:
    """Resize an image by bicubic interpolation. The result is contiguous, as L-BFGS requires."""
    image = image.detach()
    if list(image.shape[2:]) != list(size):
        image = F.interpolate(image, list(size), mode="bicubic", antialias=True)
    return image.contiguous()
