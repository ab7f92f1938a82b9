"""Photos of 640 x 480 pixels for benchmarks of the data loader, cut from the examples."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

EXAMPLES = Path(__file__).parents[1] / "examples"


def make_photos(role: str, count: int) -> list[bytes]:
    """JPEG files of random parts of the example images of a role, `content` or `style`; always the same ones."""
    rng = np.random.default_rng(0)
    sources = [Image.open(path).convert("RGB") for path in sorted((EXAMPLES / role).iterdir())]
    files = []
    for i in range(count):
        image = sources[i % len(sources)]
        width = min(image.width, image.height * 4 // 3) * 7 // 8
        height = width * 3 // 4
        left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
        file = BytesIO()
        box = left, top, left + width, top + height
        image.resize((640, 480), Image.Resampling.LANCZOS, box).save(file, "JPEG", quality=92)
        files.append(file.getvalue())
    return files


@contextmanager
def photo_folders(count: int) -> Iterator[tuple[Path, Path]]:
    """A folder of contents and one of styles, of `count` photos each."""
    with tempfile.TemporaryDirectory() as base:
        content, style = Path(base, "content"), Path(base, "style")
        for folder in (content, style):
            folder.mkdir()
            for i, data in enumerate(make_photos(folder.name, count)):
                (folder / f"{i}.jpg").write_bytes(data)
        yield content, style
