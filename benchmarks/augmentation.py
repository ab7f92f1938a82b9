"""Whether `RandomStyle` makes a classifier rely on shapes: `python -m benchmarks.augmentation`.

A small network learns six shapes from generated images of 64 px. Each shape is filled with a texture, and in training
the texture reveals the shape in most images, so that it misleads (as in Geirhos et al. 2019). The network is trained
without augmentation, with flips and color changes, with `RandomStyle`, and with both, from several seeds. The tables
have its accuracy on new images: with the textures of training, with random textures, with the texture of another shape,
without texture, and corrupted.
"""

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, stdev

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn
from torchvision.transforms import v2

import adain
from adain.evaluation.report import markdown
from benchmarks.timing import machine

SIZE = 64
GIVEN_AWAY = 0.95
"""The share of training images whose texture belongs to their shape."""

# ---- shapes: the corners (angle in turns, radius) of a polygon in the unit circle

DISK = [(i / 48, 1.0) for i in range(48)]
TRIANGLE = [(i / 3, 1.0) for i in range(3)]
SQUARE = [(i / 4 + 1 / 8, 1.0) for i in range(4)]
STAR = [(i / 10, 1.0 if i % 2 == 0 else 0.45) for i in range(10)]
HALF_DISK = [(i / 48, 1.0) for i in range(25)]
CROSS = [(i / 4 + offset, radius) for i in range(4) for offset, radius in ((-0.05, 1.0), (0.05, 1.0), (0.125, 0.44))]
SHAPES = (DISK, TRIANGLE, SQUARE, STAR, HALF_DISK, CROSS)


def shape_mask(corners: list[tuple[float, float]], generator: np.random.Generator) -> np.ndarray:
    """Return where a shape of random size, place, and tilt is: (SIZE, SIZE) in [0, 1]."""
    scale = 4  # drawn larger, for smooth edges
    radius = generator.uniform(0.26, 0.4) * SIZE
    center = SIZE / 2 + generator.uniform(-0.1, 0.1, 2) * SIZE
    tilt = generator.uniform(-0.05, 0.05)
    polygon = []
    for angle, distance in corners:
        turn = 2 * math.pi * (angle + tilt - 0.25)
        polygon.append(tuple(scale * (center + distance * radius * np.array([math.cos(turn), math.sin(turn)]))))
    image = Image.new("L", (scale * SIZE, scale * SIZE))
    ImageDraw.Draw(image).polygon(polygon, fill=255)
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.BOX), np.float32) / 255


# ---- textures: a pattern in [0, 1], which mixes two colors

ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE].astype(np.float32)


def stripes(generator: np.random.Generator) -> np.ndarray:
    angle, phase = generator.uniform(0, math.pi), generator.uniform(0, 8)
    position = math.cos(angle) * COLUMNS + math.sin(angle) * ROWS + phase
    return (position % 7 < 3.5).astype(np.float32)


def checkerboard(generator: np.random.Generator) -> np.ndarray:
    down, right = generator.uniform(0, 8, 2)
    return ((ROWS + down) // 4 + (COLUMNS + right) // 4) % 2


def dots(generator: np.random.Generator) -> np.ndarray:
    down, right = generator.uniform(0, 8, 2)
    return (np.hypot((ROWS + down) % 8 - 4, (COLUMNS + right) % 8 - 4) < 2.4).astype(np.float32)


def rings(generator: np.random.Generator) -> np.ndarray:
    down, right = generator.uniform(0, SIZE, 2)
    return (np.hypot(ROWS - down, COLUMNS - right) % 6 < 3).astype(np.float32)


def blobs(generator: np.random.Generator) -> np.ndarray:
    coarse = Image.fromarray(generator.uniform(0, 255, (SIZE // 6, SIZE // 6)).astype(np.uint8))
    return (np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) > 127).astype(np.float32)


def grain(generator: np.random.Generator) -> np.ndarray:
    return generator.uniform(0, 1, (SIZE, SIZE)).astype(np.float32)


TEXTURES = (stripes, checkerboard, dots, rings, blobs, grain)
"""The texture of each shape, in the order of SHAPES."""


# ---- datasets

Choice = Callable[[int, np.random.Generator], int | None]
"""Return the number of the texture of an image of a class, or None for a single color."""


def as_in_training(label: int, generator: np.random.Generator) -> int:
    return label if generator.random() < GIVEN_AWAY else random_texture(label, generator)


def random_texture(label: int, generator: np.random.Generator) -> int:
    return int(generator.integers(len(TEXTURES)))


def other_texture(label: int, generator: np.random.Generator) -> int:
    return int(label + generator.integers(1, len(TEXTURES))) % len(TEXTURES)


def no_texture(label: int, generator: np.random.Generator) -> None:
    return None


@dataclass(frozen=True)
class Samples:
    """Images (N, 3, SIZE, SIZE) uint8 and their classes (N,)."""

    images: Tensor
    labels: Tensor


def make_samples(count: int, choice: Choice, seed: int) -> Samples:
    """Draw images of all classes in turn. The background is a color gradient with a little noise."""
    generator = np.random.default_rng(seed)
    images, labels = [], []
    for index in range(count):
        label = index % len(SHAPES)
        mask = shape_mask(SHAPES[label], generator)[..., None]
        texture = choice(label, generator)
        pattern = np.zeros((SIZE, SIZE), np.float32) if texture is None else TEXTURES[texture](generator)
        first, second, corner, opposite = generator.uniform(0, 255, (4, 3)).astype(np.float32)
        filled = first + (second - first) * pattern[..., None]
        ground = corner + (opposite - corner) * ((ROWS + COLUMNS) / (2 * SIZE))[..., None]
        image = mask * filled + (1 - mask) * ground + generator.normal(0, 4, (SIZE, SIZE, 3))
        images.append(torch.from_numpy(image.clip(0, 255).astype(np.uint8)).permute(2, 0, 1))
        labels.append(label)
    return Samples(torch.stack(images), torch.tensor(labels))


# ---- corruptions, as in Hendrycks & Dietterich (2019)


def noise(images: Tensor) -> Tensor:
    values = images.float() + torch.randn(images.shape, generator=torch.Generator().manual_seed(0)) * 40
    return values.clamp(0, 255).to(torch.uint8)


def blur(images: Tensor) -> Tensor:
    return v2.functional.gaussian_blur(images, [9, 9], [2.0, 2.0])


def low_contrast(images: Tensor) -> Tensor:
    return v2.functional.adjust_contrast(images, 0.25)


def jpeg(images: Tensor) -> Tensor:
    return torch.stack([v2.functional.jpeg(image, quality=8) for image in images])


CORRUPTIONS = {"noise": noise, "blur": blur, "contrast": low_contrast, "JPEG": jpeg}


def make_tests(count: int) -> dict[str, Samples]:
    """Return the test images of each column. The corrupted ones have random textures."""
    tests = {
        "as in training": make_samples(count, as_in_training, 101),
        "random": make_samples(count, random_texture, 102),
        "another shape's": make_samples(count, other_texture, 103),
        "none": make_samples(count, no_texture, 104),
    }
    for name, corrupt in CORRUPTIONS.items():
        tests[name] = Samples(corrupt(tests["random"].images), tests["random"].labels)
    return tests


# ---- training


def make_network() -> nn.Sequential:
    """Return a network of four convolutions, 0.1 million parameters."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for width in (32, 64, 96):
        layers += [nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, len(SHAPES)))


def make_augmentations() -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the rows of the table: what is done to a batch of training images (N, 3, SIZE, SIZE) uint8."""
    style = adain.RandomStyle(p=0.5)
    usual = v2.Compose([v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4, 0.1), v2.RandomGrayscale(0.1)])
    return {
        "nothing": lambda images: images,
        "flips and colors": lambda images: torch.stack([usual(image) for image in images]),
        "RandomStyle": style,
        "all of these": lambda images: style(torch.stack([usual(image) for image in images])),
    }


def as_input(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def train(samples: Samples, augment: Callable[[Tensor], Tensor], epochs: int, seed: int) -> nn.Module:
    """Return a network trained with Adam and a rate annealed to zero."""
    torch.manual_seed(seed)
    network = make_network()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    batches = math.ceil(len(samples.labels) / 32)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    for _ in range(epochs):
        for indices in torch.randperm(len(samples.labels)).split(32):
            output = network(as_input(augment(samples.images[indices])))
            loss = nn.functional.cross_entropy(output, samples.labels[indices])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, samples: Samples) -> float:
    """Return the share of images whose class is right, in percent."""
    return 100 * (network(as_input(samples.images)).argmax(1) == samples.labels).float().mean().item()


def main() -> None:
    """Print accuracies: mean and standard deviation over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=1200)
    parser.add_argument("--test-images", type=int, default=1200)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()

    samples = {seed: make_samples(options.images, as_in_training, seed) for seed in range(options.seeds)}
    tests = make_tests(options.test_images)
    rows = []
    for name, augment in make_augmentations().items():
        networks = [train(samples[seed], augment, options.epochs, seed) for seed in samples]
        row: dict[str, object] = {"augmentation": name}
        for column, test in tests.items():
            values = [accuracy(network, test) for network in networks]
            row[column] = f"{mean(values):.0f}" + (f" ± {stdev(values):.0f}" if len(values) > 1 else "")
        rows.append(row)
    about = f"{options.images} training images, {options.epochs} epochs, {options.seeds} seeds; accuracy in %"
    print(f"{machine()}; {about}")
    print(markdown(rows))


if __name__ == "__main__":
    main()
