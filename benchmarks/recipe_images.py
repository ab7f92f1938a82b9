"""The images of docs/recipes.md: `python -m benchmarks.recipe_images [NAME ...]`, at the root of a clone.

Each command of the page that writes `out/recipes/NAME.png` is run, and its result is saved as `docs/recipes/NAME.jpg`.
With names, only their commands are run.
"""

import re
import shlex
import sys
from io import BytesIO
from pathlib import Path

from PIL import Image

from adain.cli.main import main as adain

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "recipes.md"
FOLDER = ROOT / "docs" / "recipes"
MOST_BYTES = 60_000  # of an image of the page


def commands() -> dict[str, list[str]]:
    """The words of each command of the page that writes an image, without `adain`, by the name of the image."""
    found = {}
    for line in re.findall(r"^adain (.+)$", PAGE.read_text(), re.MULTILINE):
        words = shlex.split(line)
        output = Path(words[words.index("--output") + 1])
        if output.suffix:
            found[output.stem] = words
    return found


def compress(image: Image.Image) -> bytes:
    """The image as a JPEG of at most `MOST_BYTES` bytes."""
    for quality in range(85, 40, -5):
        buffer = BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=quality, optimize=True)
        if buffer.tell() <= MOST_BYTES:
            break
    return buffer.getvalue()


def main() -> int:
    """Run the commands, and write the images."""
    names = sys.argv[1:]
    for name, words in commands().items():
        if names and name not in names:
            continue
        code = adain(words)
        if code:
            return code
        with Image.open(words[words.index("--output") + 1]) as image:
            (FOLDER / f"{name}.jpg").write_bytes(compress(image))
    return 0


if __name__ == "__main__":
    sys.exit(main())
