"""The `Stylizer`: a method that is loaded once, and stylizes any number of images."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from adain.imaging.options import DEFAULT_READ_OPTIONS, ReadOptions
from adain.imaging.photo import to_image
from adain.inference.changes import ChangesAndSettings, StyleChanges
from adain.inference.image_types import ImageLike, Style, check_image
from adain.inference.options import DEFAULT_STYLE_OPTIONS, StyleOptions, override
from adain.inference.pipeline import stylize
from adain.inference.preparation import prepare_once
from adain.inference.style_encoding import as_list, depends_on_content, encode_style
from adain.methods import METHODS, Method
from adain.utils.checks import check_names
from adain.utils.precision import Precision

if TYPE_CHECKING:
    from typing_extensions import Unpack  # that of `typing` needs Python 3.11


class Stylizer:
    """Loads a method and encodes a style once, to stylize any number of images. Results are Pillow images.

    >>> stylizer = adain.Stylizer("painting.jpg", "adain-lite")
    >>> stylizer("photo.jpg").save("stylized.png")
    >>> stylizer("photo.jpg", size=64, alpha=0.5).size
    (64, 64)

    Without a style, each call takes its own:

    >>> stylizer = adain.Stylizer(method="adain-lite")
    >>> image = stylizer("photo.jpg", "painting.jpg", color="keep-luminance")

    Args:
        style: The style of all images, or several, as `adain.stylize` takes them. None if each call names its own, or
            for a method with a built-in style.
        method: A name, a file of weights, or what `adain.prepare` returned, which then also determines `device` and
            `precision`.
        options: How images are stylized.
        read_options: Which files are accepted.
        device: As `adain.prepare` takes it.
        precision: As `adain.prepare` takes it.
        changes: Fields of `StyleOptions` by name, such as `alpha=0.8`, which override `options`; all others are
            settings of the method, as `adain.prepare` takes them.

    Attributes:
        method: What `adain.prepare` returned.
        style: The styles, as given.
        options: How images are stylized, unless a call says otherwise.

    Raises:
        ValueError: An option is unknown or out of range, or anything that `adain.prepare` raises.
        OSError: A style cannot be read.
    """

    def __init__(
        self,
        style: Style | Sequence[Style] | None = None,
        method: str | Path | Method = "adain",
        *,
        options: StyleOptions = DEFAULT_STYLE_OPTIONS,
        read_options: ReadOptions = DEFAULT_READ_OPTIONS,
        device: str = "auto",
        precision: Precision = "auto",
        **changes: "Unpack[ChangesAndSettings]",
    ):
        self.options, settings = override(options, changes)
        check_names(settings, Stylizer, StyleOptions, *METHODS.values())
        self.read_options = read_options
        self.method = prepare_once(method, device, precision, **settings)
        self.style = style
        self._codes: list[Style] | None = None
        if style is not None and not depends_on_content(self.options):
            size = self.options.style_size
            assert size != "content"
            self._codes = [
                encode_style(self.method, one, size, read_options=self.read_options) for one in as_list(style)
            ]

    def __call__(
        self,
        content: ImageLike,
        style: Style | Sequence[Style] | None = None,
        *,
        size: int | None = None,
        **changes: "Unpack[StyleChanges]",
    ) -> Image.Image:
        """Stylize an image: returns a Pillow image of exactly the content's size.

        Args:
            content: One image, as `adain.stylize` takes it.
            style: A style for this image only.
            size: Shorter side of the content, and so of the result, in pixels (default: the content's own).
            changes: Fields of `StyleOptions` by name, such as `alpha=0.8`, for this image only.

        Raises:
            ValueError: As `adain.stylize`, or a setting of the method.
            TypeError: As `adain.stylize`, or a `Photo`.
            OSError: An image cannot be read.
        """
        options, others = override(self.options, changes)
        check_names(others, Stylizer.__call__, Stylizer, StyleOptions, *METHODS.values())
        if others:
            raise ValueError(f"Expected options of StyleOptions, got {', '.join(others)}; give settings to Stylizer")
        check_image(content)
        if isinstance(content, Tensor) and content.dim() == 4 and len(content) > 1:
            raise ValueError(f"Expected one image, got a batch of {len(content)}; use adain.stylize for batches")
        given: Any = style
        if style is None:
            given, options = self._encoded(options)
        stylized = stylize(content, given, self.method, size=size, options=options, read_options=self.read_options)
        return to_image(stylized)

    def _encoded(self, options: StyleOptions) -> tuple[Any, StyleOptions]:
        """Return the style codes and the options to use with them; the styles themselves if the codes do not fit."""
        if self._codes is None or depends_on_content(options) or options.style_size != self.options.style_size:
            return self.style, options
        return self._codes, replace(options, style_size=None)

    def __repr__(self) -> str:
        """Return the name of the method, its device, and its precision."""
        return f"Stylizer({self.method.name}, {self.method.device}, {self.method.dtype})"
