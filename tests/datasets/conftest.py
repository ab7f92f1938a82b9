"""Small datasets of each kind, and what they contain."""

import io
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from adain.datasets.options import EngineOptions, ResultOptions, SourceOptions
from adain.datasets.runner import stylize_dataset
from tests.conftest import picture

CLASSES = ("cat", "dog")
COUNT = 7


def encoded(seed, format="PNG", size=(40, 36)):
    """The file of a small image."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(file, format)
    return file.getvalue()


def rows():
    """The rows of a table of detections, with all kinds of columns beside the images."""
    return [
        {
            "image_id": f"id{i}",
            "image": {"bytes": encoded(i, "JPEG" if i % 2 else "PNG", (40 + i % 3, 36)), "path": None},
            "label": i % 2,
            "objects": {"bbox": [[1.0, 2.0, 3.5 + i, 4.0]] * i, "category": [0] * i},
            "mask": {"bytes": encoded(100 + i), "path": f"mask{i}.png"},
            "size": np.full((2, 2), i, np.float32).tolist(),
        }
        for i in range(COUNT)
    ]


FEATURES = datasets.Features(
    {
        "image_id": datasets.Value("string"),
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=[*CLASSES]),
        "objects": {
            "bbox": datasets.List(datasets.List(datasets.Value("float32"), length=4)),
            "category": datasets.List(datasets.Value("int64")),
        },
        "mask": datasets.Image(),
        "size": datasets.Array2D((2, 2), "float32"),
    }
)


@pytest.fixture
def table():
    return datasets.Dataset.from_list(rows(), features=FEATURES)


@pytest.fixture
def photos(tmp_path):
    """A folder with a subfolder for each class."""
    for i in range(COUNT):
        picture(tmp_path / "photos" / CLASSES[i % 2] / f"{i}.{'png' if i % 3 else 'JPEG'}", (40 + i % 2, 36), i)
    return tmp_path / "photos"


def write_shard(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as shard:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))
    return path


def read_shard(path):
    with tarfile.open(path) as shard:
        return {member.name: shard.extractfile(member).read() for member in shard}


@pytest.fixture
def shards(tmp_path):
    """Three tar shards of two samples each."""
    folder = tmp_path / "shards"
    for shard in range(3):
        members = []
        for i in range(2):
            key = f"{shard}{i}"
            members += [(f"{key}.jpg", encoded(2 * shard + i, "JPEG")), (f"{key}.cls", str(i).encode())]
            members += [(f"{key}.json", b'{"box": [1, 2.5]}'), (f"{key}.seg.bin", bytes([shard, i]))]
        write_shard(folder / f"train-{shard:03}.tar", members)
    return folder


@pytest.fixture(scope="session")
def run(lite):
    """Stylize a dataset with adain-lite, in this process; returns the report."""

    def stylize(content, output, style=None, format=None, engine_options=None, **options):
        names = SourceOptions.__dataclass_fields__
        of_source = {name: options.pop(name) for name in [*options] if name in names}
        engine = engine_options or EngineOptions(workers=1, quiet=True)
        return stylize_dataset(
            content,
            style,
            output,
            lite,
            format=format,
            source_options=SourceOptions(**{"shard_size": 2, **of_source}),
            options=ResultOptions(**options),
            engine_options=engine,
            device="cpu",
            precision="fp32",
        )

    return stylize


def contents(folder):
    """All files of a dataset by path, except the records of the run."""
    files = [path for path in Path(folder).rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(files)}


def size_of(data):
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        return image.size
