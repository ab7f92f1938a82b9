"""Loading pairs of crops for training, beside other ways to do it: `python -m benchmarks.loader`.

All decode the same 640 x 480 JPEGs from memory, or those images prepared by `adain prepare-data`, in one thread, and
take turns; the times are those of the processor. naoto0804's way is that of pytorch-AdaIN: Pillow, the shorter side
resized to 512, a random crop of 256, `ToTensor`. The loader before is that of this project before it cut the crop out
first: the whole image is resized (Lanczos), cropped, and converted to float32. Before anything is printed, the crops
must be close to exact ones.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms

from adain.imaging import photo, reader
from adain.training.crops import Crop
from adain.training.prepare import encode_jpeg
from adain.utils import memory
from benchmarks.photos import make_photos
from benchmarks.timing import machine, take_turns

CROP = 256


def naoto(data: bytes, transform: Callable[[Image.Image], Tensor]) -> Tensor:
    return transform(Image.open(BytesIO(data)).convert("RGB"))


def before(data: bytes, size: int, rng: np.random.Generator) -> Tensor:
    """The whole image resized, then cropped, as float32."""
    image = photo.resize(reader.read(data, shrink=size), size)
    left, top = (int(rng.integers(side - CROP, endpoint=True)) for side in image.size)
    image = image.crop((left, top, left + CROP, top + CROP))
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return photo.to_tensor(image)[0]


def check(files: list[bytes], size: int) -> float:
    """Return the mean absolute difference of center crops to exact ones, in levels of 255: Lanczos, decoded whole."""
    differences = []
    for data in files:
        whole = Image.open(BytesIO(data))
        half = CROP * whole.height / size / 2
        box = whole.width / 2 - half, whole.height / 2 - half, whole.width / 2 + half, whole.height / 2 + half
        exact = np.asarray(whole.resize((CROP, CROP), Image.Resampling.LANCZOS, box))
        crop = Crop((size, size), CROP)(data, None).permute(1, 2, 0).numpy()
        differences.append(np.abs(crop.astype(int) - exact).mean())
    mean = float(np.mean(differences))
    assert mean < 1.5, f"crops at size {size} differ by {mean:.2f} of 255 on average"
    return mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 256])
    options = parser.parse_args()
    torch.set_num_threads(1)
    memory.keep_freed()  # as the command line does, for all sides
    rng = np.random.default_rng(0)
    files = make_photos("content", options.photos)
    calls = {}

    def add(name: str, crop: Callable[[bytes], Tensor], data: list[bytes]) -> None:
        calls[name] = lambda: [crop(file) for file in data]

    to_512 = transforms.Compose([transforms.Resize(512), transforms.RandomCrop(CROP), transforms.ToTensor()])
    baseline = "naoto0804's way, 512"
    add(baseline, partial(naoto, transform=to_512), files)
    differences = []
    for size in options.sizes:
        prepared = [encode_jpeg(data, size, quality=90) for data in files]
        crop = partial(Crop((size, size), CROP, flip=True), rng=rng)
        add(f"loader before, {size}", partial(before, size=size, rng=rng), files)
        add(f"loader, {size}", crop, files)
        add(f"prepared, {size}", crop, prepared)
        differences.append(f"{check(files, size):.2f} at {size}")
    times = take_turns(calls, options.rounds, clock=time.process_time)
    print(f"{machine()}; {options.photos} JPEGs of 640 x 480, {sum(map(len, files)) / len(files) / 1000:.0f} kB each")
    print(f"mean difference to exact crops, of 255: {', '.join(differences)}")
    print("| | ms per image | pairs per second and core | times as fast |\n| --- | --- | --- | --- |")
    for name, seconds in times.items():
        per_image = seconds.median / options.photos
        ratio = seconds.ratio(times[baseline])
        print(f"| {name} | {1000 * per_image:.2f} | {1 / per_image / 2:.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
