"""The example photos and paintings of the web page, with their titles."""

from pathlib import Path

from adain.imaging import listing

_INSTALLED = Path(__file__).parents[2] / "examples"

EXAMPLES = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[3] / "examples"
"""Folder of the example images: inside the installed package, or at the top of a clone."""

FIRST_CONTENT, FIRST_STYLE = "content/summer_palace.jpg", "style/composition_vii.jpg"
"""The examples that are stylized at first."""

TITLES = {
    "content/astronaut.png": "An astronaut",
    "content/chelsea.png": "A cat",
    "content/coffee.png": "A cup of coffee",
    "content/rocket.jpg": "A rocket",
    "content/summer_palace.jpg": "The Summer Palace in Beijing",
    "style/composition_vii.jpg": "Composition VII\nWassily Kandinsky",
    "style/shipwreck.jpg": "The Wreck of a Transport Ship\nJ. M. W. Turner",
    "style/starry_night.jpg": "The Starry Night\nVincent van Gogh",
    "style/the_scream.jpg": "The Scream\nEdvard Munch",
    "style/wave.jpg": "The Great Wave\nHokusai",
}
"""Titles as on the static page (`docs/page/examples.js`), with the painter on a line of its own."""


def images(folder: str) -> list[Path]:
    """Return the example images of a folder, content or style; none if somebody removed the folder."""
    return listing.files(EXAMPLES / folder) if (EXAMPLES / folder).is_dir() else []


def caption(path: Path) -> str:
    """Return the title of an example, or the name of another file in words: "my_own.jpg" becomes "My own"."""
    if path.is_relative_to(EXAMPLES):
        name = path.relative_to(EXAMPLES).as_posix()
        if name in TITLES:
            return TITLES[name]
    words = path.stem.replace("_", " ").replace("-", " ")
    return words[:1].upper() + words[1:]


def command_path(path: Path) -> str:
    """Return the path of a file as a command takes it; for an example in a clone, that from the top of the clone."""
    clone = EXAMPLES.parent
    if EXAMPLES != _INSTALLED and path.is_relative_to(clone):
        path = path.relative_to(clone)
    return path.as_posix()
