"""Photorealistic transfer with wavelet pooling and skip connections (WCT2, Yoo et al., ICCV 2019, arXiv 1903.09760).

`python -m benchmarks.wavelets CONTENT WEIGHTS.safetensors [--steps 2000]` trains the decoder to reconstruct the images
of a folder. `python -m benchmarks.photorealism --wavelets WEIGHTS.safetensors` compares its results with others.

VGG-19 up to relu4_1 pools by Haar wavelets instead of maxima. The decoder mirrors it and inverts the pooling: it gets
the low band from the layer below and the three high bands from the encoder, which are summed as in the paper's first
variant. The features are whitened and colored at the first layer of each block, on the way to relu4_1.
"""

import argparse
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule, Trainer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from adain.functional import whitening
from adain.models.backbones import POOL, Backbone
from adain.models.layers import Conv2d
from adain.training.batches import Batch
from adain.training.cli import TRAINER_DEFAULTS
from adain.training.datamodule import Pictures
from adain.training.muon import Muon

LAYER = "relu4_1"
TRANSFER_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
MULTIPLE = 8
"""The sides of an image must be multiples of this, so that pooling splits them evenly."""

Transform = Callable[[str, Tensor], Tensor]
"""What replaces the features (B, C, H, W) of a layer, given its name."""


def split_bands(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split features (B, C, H, W) into Haar bands: a low one (B, C, H/2, W/2) and three high ones (3, B, C, H/2, W/2).

    The low band is the mean of four pixels, half of that in the paper, so that features keep the scale that the next
    convolution was trained for.
    """
    top_left, top_right = x[..., ::2, ::2], x[..., ::2, 1::2]
    bottom_left, bottom_right = x[..., 1::2, ::2], x[..., 1::2, 1::2]
    low = (top_left + top_right + bottom_left + bottom_right) / 4
    columns = (top_left - top_right + bottom_left - bottom_right) / 4
    rows = (top_left + top_right - bottom_left - bottom_right) / 4
    diagonal = (top_left - top_right - bottom_left + bottom_right) / 4
    return low, torch.stack([columns, rows, diagonal])


def merge_bands(low: Tensor, high: Tensor) -> Tensor:
    """Invert `split_bands`."""
    columns, rows, diagonal = high
    x = low.new_empty(*low.shape[:2], 2 * low.shape[2], 2 * low.shape[3])
    x[..., ::2, ::2] = low + columns + rows + diagonal
    x[..., ::2, 1::2] = low - columns + rows - diagonal
    x[..., 1::2, ::2] = low + columns - rows - diagonal
    x[..., 1::2, 1::2] = low - columns - rows + diagonal
    return x


def crop_to_multiple(image: Tensor) -> Tensor:
    """Return an image (B, 3, H, W) without the pixels on the right and at the bottom that pooling cannot split."""
    height, width = image.shape[2:]
    return image[..., : height - height % MULTIPLE, : width - width % MULTIPLE]


class WaveletNetwork(nn.Module):
    """The encoder with wavelet pooling, and the decoder that inverts it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Backbone(layers=[LAYER])
        widths = [3, *self.encoder.plan(LAYER)]
        self.decoder = nn.ModuleDict(_decoder_layers(widths))

    def encode(self, images: Tensor, transform: Transform | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return the features of relu4_1, and the high bands of each pooling from fine to coarse."""
        x = (images - self.encoder.mean) / self.encoder.std
        bands = []
        for name, module in self.encoder.net.named_children():
            if name.startswith("pool"):
                x, high = split_bands(x)
                bands.append(high)
            else:
                x = module(x)
            if transform and name in TRANSFER_LAYERS:
                x = transform(name, x)
        return x, bands

    def decode(self, features: Tensor, bands: list[Tensor]) -> Tensor:
        """Return the images (B, 3, H, W) of features and high bands."""
        x = features
        coarse_first = iter(reversed(bands))
        for name, module in self.decoder.items():
            x = module(merge_bands(x, next(coarse_first)) if name.startswith("merged") else x)
        return x

    @torch.inference_mode()
    def stylize(self, content: Tensor, style: Tensor) -> Tensor:
        """Return a content (1, 3, H, W) in the colors of a style (1, 3, H', W'); all sides are multiples of 8."""
        style_statistics: dict[str, tuple[Tensor, Tensor]] = {}

        def remember(layer: str, features: Tensor) -> Tensor:
            mean, covariance = whitening.covariance(features)
            style_statistics[layer] = mean, whitening.symmetric_power(covariance, 0.5)
            return features

        def transfer(layer: str, features: Tensor) -> Tensor:
            statistics = whitening.covariance(features)
            return whitening.whiten_and_color(features, *statistics, *style_statistics[layer])

        self.encode(style, remember)
        return self.decode(*self.encode(content, transfer))


def _decoder_layers(widths: list[int]) -> OrderedDict[str, nn.Module]:
    """The convolutions of the mirrored decoder; the names of those after the inverse of a pooling start with merged."""
    layers = OrderedDict[str, nn.Module]()
    for i in range(len(widths) - 1, 0, -1):
        if widths[i] == POOL:
            continue
        outputs = [width for width in widths[:i] if width != POOL][-1]
        convolution = Conv2d(widths[i], outputs, 3, padding=1, padding_mode="reflect")
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        kind = "merged" if widths[i + 1 : i + 2] == [POOL] else "conv"
        layers[f"{kind}{i}"] = nn.Sequential(convolution, nn.ReLU()) if i > 1 else convolution
    nn.init.zeros_(convolution.weight)  # of the last one, so that training starts from plain gray
    nn.init.constant_(convolution.bias, 0.45)  # type: ignore[arg-type]
    return layers


class Reconstruction(LightningModule):
    """Trains the decoder to reconstruct images, in pixels and in the features of relu4_1."""

    def __init__(self, network: WaveletNetwork, lr: float):
        super().__init__()
        self.network = network
        self.lr = lr

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        pixels, features = self._errors(batch["content"])
        self.log("pixels", pixels, prog_bar=True)
        return pixels + features

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        pixels, _ = self._errors(batch["content"])
        self.log("held-out pixels", pixels, prog_bar=True, batch_size=len(batch["content"]))

    def _errors(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The squared errors of reconstructed pixels and features, over the variances of both."""
        features, bands = self.network.encode(images)
        images_again = self.network.decode(features, bands)
        features_again, _ = self.network.encode(images_again)
        pixels = F.mse_loss(images_again, images) / images.var()
        return pixels, F.mse_loss(features_again, features) / features.var()

    def configure_optimizers(self) -> Any:
        optimizer = Muon(self.network.decoder.parameters(), lr=self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.trainer.max_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def load(weights: str) -> WaveletNetwork:
    """Return the network with the weights that `main` wrote."""
    network = WaveletNetwork()
    network.decoder.load_state_dict(load_file(weights))
    return network


def main() -> None:
    """Train the decoder and write its weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("content", help="folder of photos")
    parser.add_argument("output", help="safetensors file of the weights")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--crop", type=int, default=128, help="side of the crops in pixels")
    parser.add_argument("--lr", type=float, default=5e-3, help="initial learning rate of Muon")
    options = parser.parse_args()
    torch.manual_seed(0)
    network = WaveletNetwork().to(memory_format=torch.channels_last)
    size = (options.crop, 2 * options.crop)
    data = Pictures(options.content, None, size=size, crop=options.crop, batch_size=options.batch_size, workers=1)
    settings = {**TRAINER_DEFAULTS, "max_steps": options.steps, "val_check_interval": options.steps}
    trainer = Trainer(**settings, logger=False, enable_checkpointing=False)
    trainer.fit(Reconstruction(network, options.lr), data)
    error = trainer.callback_metrics["held-out pixels"]
    print(f"Squared error of held-out images over their variance: {error:.4f}")
    save_file({name: tensor.contiguous() for name, tensor in network.decoder.state_dict().items()}, options.output)


if __name__ == "__main__":
    main()
