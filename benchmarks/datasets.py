"""Style as augmentation: images per second of a DataLoader with `RandomStyle`, beside the way of stylize-datasets.

    python -m benchmarks.datasets

bethgelab/stylize-datasets stylizes one Pillow image at a time with AdaIN in float32: it reads a style image for each
content, resizes it to 512 px, and encodes it. This is done here by the plain AdaIN of `benchmarks.textbook`, also with
styles at the size of the contents. `RandomStyle` draws from a bank of encoded styles, and stylizes every image.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

import adain
from adain.evaluation.report import markdown
from adain.imaging import listing
from adain.methods import weights
from benchmarks.textbook import Textbook
from benchmarks.timing import machine, take_turns

ROOT = Path(__file__).parents[1]


class Photos(Dataset):
    """Contents, cropped to squares, through a transform; the same few images again and again."""

    def __init__(self, folder: Path, count: int, size: int, transform: Callable[[Image.Image], Tensor]):
        self.paths = listing.files(folder)
        self.count = count
        self.crop = v2.Compose([v2.Resize(size), v2.CenterCrop(size)])
        self.transform = transform

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        image = Image.open(self.paths[index % len(self.paths)]).convert("RGB")
        return self.transform(self.crop(image))


class OneAtATime:
    """The way of stylize-datasets: a random style image is read, resized, and encoded for each content."""

    def __init__(self, folder: Path, style_size: int):
        method = weights.load("adain")
        self.network = Textbook().fill(method.encoder, method.decoder).eval()
        self.styles = listing.files(folder)
        self.resize = v2.Resize(style_size)

    @torch.no_grad()
    def __call__(self, image: Image.Image) -> Tensor:
        path = self.styles[int(torch.randint(len(self.styles), ()))]
        style = _to_tensor(self.resize(Image.open(path).convert("RGB")))
        stylized = self.network.decode(_to_tensor(image)[None], self.network.encode_style(style[None]))
        return stylized[0].clamp(0, 1)


def _to_tensor(image: Image.Image) -> Tensor:
    return v2.functional.to_dtype(v2.functional.to_image(image), torch.float32, scale=True).as_subclass(Tensor)


def read_all(photos: Photos, workers: int) -> None:
    """Read one epoch, with the start of the workers."""
    for _ in DataLoader(photos, batch_size=8, num_workers=workers):
        pass


def main(content: Path, style: Path, count: int, size: int, rounds: int, workers: list[int]) -> None:
    transforms = {
        "no style": _to_tensor,
        "RandomStyle": v2.Compose([adain.RandomStyle(1.0), _to_tensor]),
        "RandomStyle, alpha 1": v2.Compose([adain.RandomStyle(1.0, 1.0), _to_tensor]),
        "RandomStyle, features": v2.Compose([adain.RandomStyle(1.0, alpha_blend="features"), _to_tensor]),
        "one at a time, style 512 px": OneAtATime(style, 512),
        f"one at a time, style {size} px": OneAtATime(style, size),
    }
    print(f"{machine()}; {count} images of {size} px, medians of {rounds} rounds")
    calls = {}
    for name, transform in transforms.items():
        for number in workers:
            calls[name, number] = partial(read_all, Photos(content, count, size, transform), number)
    times = take_turns(calls, rounds)
    rows = []
    for name in transforms:
        row = {"images per second": name}
        for number in workers:
            row[f"{number} workers"] = f"{count / times[name, number].median:.2f}"
        rows.append(row)
    print(markdown(rows), end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--content", type=Path, default=ROOT / "examples" / "content", help="folder of contents")
    parser.add_argument("--style", type=Path, default=ROOT / "examples" / "style", help="folder of styles")
    parser.add_argument("--count", type=int, default=16, help="images for each round")
    parser.add_argument("--size", type=int, default=224, help="side of the contents in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="workers of the DataLoader")
    main(**vars(parser.parse_args()))
