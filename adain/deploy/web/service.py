"""Requests of the web page, their command lines, and the service that stylizes them."""

import hashlib
import math
import shlex
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from adain.imaging import reader, writer
from adain.imaging.options import ReadOptions
from adain.imaging.photo import to_tensor
from adain.inference import pipeline, preparation, style_encoding
from adain.inference.naming import result_stem
from adain.inference.options import Color
from adain.methods import METHODS, Method, StyleCode
from adain.methods.progress import Progress, Stop
from adain.utils.files import truncated

RETENTION = 2 * 3600  # seconds after which uploads and results are deleted
PREVIEW_CACHE_SIZE = 16  # previews of uploads
STYLE_CACHE_SIZE = 16  # style codes; those of style-swap take tens of MB each
PREVIEW_INTERVAL = 1.0  # seconds between two previews of an optimization
PREVIEW_SIZE = 640  # pixels, longer side of the preview of an upload
MASK_FEATHER = 4  # pixels over which the edge of a painted mask is softened
MAX_STEM_LENGTH = 80  # bytes of an upload's name in the name of a result


@dataclass(frozen=True)
class Upload:
    """An image that a visitor uploaded or chose among the examples."""

    path: str
    name: str  # as the visitor knows it, for the command line and error messages
    size: tuple[int, int]  # (width, height) in pixels


@dataclass(frozen=True)
class StylizeRequest:
    """What to stylize, and with which options."""

    content: Upload
    styles: tuple[Upload, ...]
    method: str
    alpha: float
    mix: float  # weight of the second style, if there are two
    color: Color
    size: int  # shorter side in pixels
    steps: int  # used only by an optimization
    device: str
    stroke_size: int | None = None  # shorter side of the styles in pixels; None for their own
    photorealistic: bool = False
    detail: float = 0.0
    second_alpha: float = 1.0  # strength of the second style, if there are two
    mask: Upload | None = None  # white where the second style applies; without it, both are mixed

    @property
    def uploads(self) -> tuple[Upload, ...]:
        """All images of the request."""
        mask = (self.mask,) if self.mask else ()
        return (self.content, *self.styles, *mask)

    @property
    def pixels(self) -> float:
        """The number of pixels of the result."""
        shorter, longer = sorted(self.content.size)
        return self.size**2 * longer / shorter

    @property
    def style_weights(self) -> list[float]:
        """The weights of two styles that are mixed; empty if there is one, or if each has its own area."""
        if len(self.styles) == 2 and self.mask is None:
            return [round(1 - self.mix, 2), self.mix]
        return []

    @property
    def alphas(self) -> list[float]:
        """The strength of each style, or one for both."""
        if len(self.styles) == 2 and self.second_alpha != self.alpha:
            return [self.alpha, self.second_alpha]
        return [self.alpha] if self.styles else []

    @property
    def method_settings(self) -> dict[str, Any]:
        """The constructor arguments of an optimization; empty for a feed-forward method."""
        return {"steps": self.steps} if METHODS[self.method].iterative else {}

    def file_name(self) -> str:
        """Return the file name of the result, the same as the command line chooses."""
        images = (self.content, *self.styles)
        content, *styles = [truncated(Path(image.name).stem, MAX_STEM_LENGTH) for image in images]
        return result_stem(content, styles or [self.method]) + ".png"

    def command_line(self) -> str:
        """Return the command line that writes the same result when run in the folder that contains the images."""
        images = [image.name for image in (self.content, *self.styles)]
        paths = [f"./{name}" if name.startswith("-") else name for name in images]  # else a flag
        content, *styles = paths
        several = len(styles) > 1  # the command takes a single style without a flag
        words = ["adain", "stylize", content, *([] if several else styles)]
        flags: dict[str, Sequence[object]] = {
            "style": styles if several else [],
            "style-weight": self.style_weights,
            "mask": [self.mask.name] if self.mask else [],
            "feather": [MASK_FEATHER] if self.mask else [],
            "method": [self.method],
            "alpha": self.alphas,
            "size": [self.size],
            "color": [self.color] if self.color != "style" else [],
            "style-size": [self.stroke_size] if self.stroke_size and self.styles else [],
            "detail": [self.detail] if self.detail else [],
            **{f"{self.method}.{name}": [value] for name, value in self.method_settings.items()},
            "device": [self.device] if self.device != "auto" else [],
        }
        for flag, values in flags.items():
            if values:
                words += [f"--{flag}", *map(str, values)]
        if self.photorealistic:
            words.append("--photorealistic")
        return shlex.join(words)


@dataclass(frozen=True)
class StylizeResult:
    """The files of a result, and the request that reproduces it."""

    request: StylizeRequest
    path: Path  # a PNG file
    jpeg: Path
    before: Path  # the content at the size of the result, a JPEG file


class StylizeService:
    """Stylizes requests. Methods and style codes are cached; results are written to a folder.

    Args:
        folder: The folder for results.
        device: As `adain.prepare` takes it.
        max_pixels: The largest number of pixels of an upload and of a result.
    """

    def __init__(self, folder: str | Path, device: str, max_pixels: int):
        self.folder = Path(folder)
        self.device = device
        self.max_pixels = max_pixels
        self.runs = dict[str, threading.Event]()  # by visitor: the event that stops the optimization
        self.pace = dict[str, float]()  # by method: seconds per pixel of its latest result
        self.pool = ThreadPoolExecutor(2)  # an optimization does not block the other requests
        self.load_method = lru_cache(maxsize=None)(partial(preparation.prepare, device=device))
        self.open_upload = lru_cache(maxsize=PREVIEW_CACHE_SIZE)(self._open_upload)
        self.encode_style = lru_cache(maxsize=STYLE_CACHE_SIZE)(self._encode_style)

    def close(self) -> None:
        """Stop all optimizations and wait until their threads have ended."""
        for visitor in list(self.runs):
            self.end(visitor)
        self.pool.shutdown(cancel_futures=True)

    def begin(self, visitor: str) -> threading.Event:
        """Return the event that stops the visitor's next optimization; end one that is still running."""
        self.end(visitor)
        return self.runs.setdefault(visitor, threading.Event())

    def stop(self, visitor: str) -> None:
        """Stop the visitor's optimization, which then returns its best result so far."""
        run = self.runs.get(visitor)
        if run is not None:
            run.set()

    def end(self, visitor: str) -> None:
        """Stop the visitor's optimization and discard it."""
        self.stop(visitor)
        self.runs.pop(visitor, None)

    def save_mask(self, mask: Image.Image) -> Upload:
        """Write a painted mask, white where the second style applies, to a file, the same for the same mask."""
        digest = hashlib.sha256(mask.tobytes()).hexdigest()[:16]
        path = self.folder / f"mask-{mask.width}x{mask.height}-{digest}" / "mask.png"
        writer.save(to_tensor(mask.convert("RGB")), path)
        return Upload(str(path), path.name, mask.size)

    def _open_upload(self, path: str, name: str) -> tuple[Upload, Image.Image]:
        """Return an upload and a preview of it.

        Args:
            path: The file.
            name: The name under which the visitor knows the file.

        Raises:
            OSError: The file is not an image, or the image has more than `max_pixels` pixels.
        """
        image = reader.read(path, options=ReadOptions(self.max_pixels))
        upload = Upload(path, name, image.size)
        image.thumbnail((PREVIEW_SIZE, PREVIEW_SIZE))
        return upload, image

    def stylize(self, request: StylizeRequest, callback: Callable[[Progress], None] | None = None) -> StylizeResult:
        """Stylize a request and write the result to a file.

        Args:
            request: What to stylize.
            callback: Called after each step of an optimization.

        Raises:
            ValueError: The result would have more than `max_pixels` pixels.
            OSError: An upload no longer exists.
        """
        self._check(request)
        started = time.monotonic()
        content = reader.load(request.content.path, request.size, ReadOptions(self.max_pixels))
        if METHODS[request.method].iterative:
            settings = request.method_settings
            method = preparation.prepare(request.method, self.device, callback=callback, **settings)
        else:
            method = self.load_method(request.method)
        style, options = self._style_arguments(request, method)
        options |= {"color": request.color, "photorealistic": request.photorealistic, "detail": request.detail}
        stylized = pipeline.stylize(content, style, method, **options)
        path = self.folder / uuid.uuid4().hex / request.file_name()
        writer.save(stylized.pixels, path, like=stylized)
        jpeg, before = path.with_suffix(".jpg"), path.with_name("before.jpg")
        writer.save(stylized.pixels, jpeg, like=stylized)
        writer.save(content.pixels, before, like=content)
        self.pace[request.method] = (time.monotonic() - started) / request.pixels
        return StylizeResult(request, path, jpeg, before)

    def expected_seconds(self, request: StylizeRequest) -> float | None:
        """Return how long a request will take, as the latest one of its method did; None before the first one."""
        pace = self.pace.get(request.method)
        return None if pace is None else pace * request.pixels

    def _check(self, request: StylizeRequest) -> None:
        """Raise if the result would be too large, or if an upload no longer exists."""
        if request.pixels > self.max_pixels:
            raise ValueError(f"the result would have over {self.max_pixels} pixels; choose a smaller size")
        for upload in request.uploads:
            if not Path(upload.path).exists():
                raise FileNotFoundError(f"{upload.name} was deleted after {RETENTION // 3600} hours; upload it again")

    def _style_arguments(self, request: StylizeRequest, method: Method) -> tuple[Any, dict[str, Any]]:
        """Return the styles and the style options that `pipeline.stylize` takes."""
        if not request.styles:
            return None, {}
        options: dict[str, Any] = {"alpha": request.alphas, "style_size": request.stroke_size}
        if request.mask:
            options |= {"mask": request.mask.path, "feather": MASK_FEATHER}
        elif request.style_weights:
            options["style_weight"] = request.style_weights
        paths = [style.path for style in request.styles]
        # An optimization encodes the styles itself, and CORAL recolors them for each photo.
        if method.iterative or request.color == "coral":
            return paths, options
        codes = [self.encode_style(request.method, path, request.stroke_size) for path in paths]
        return codes, {**options, "style_size": None}

    def _encode_style(self, method: str, path: str, size: int | None) -> StyleCode:
        return style_encoding.encode_style(self.load_method(method), path, size)

    def optimize(
        self, request: StylizeRequest, stop: threading.Event
    ) -> Iterator[tuple[Progress, float] | StylizeResult]:
        """Yield the progress of an optimization and the seconds left, every `PREVIEW_INTERVAL`; finally the result.

        Args:
            request: What to stylize, with a method that optimizes.
            stop: Stops the optimization when set. It is set when this iterator ends, as the visitor may have left.
        """
        tracker = _ProgressTracker(request.size, stop)
        future: Future[StylizeResult] = self.pool.submit(self.stylize, request, tracker)
        try:
            while wait([future], timeout=PREVIEW_INTERVAL).not_done:
                if tracker.latest is not None:
                    yield tracker.latest
            result = future.result()
            # With a single size, which is a multiple of the stride, fewer steps give exactly the stopped result.
            single_size = len(tracker.sizes) == 1 and tracker.sizes[0] >= request.size
            if stop.is_set() and single_size and tracker.latest is not None:
                progress, _ = tracker.latest
                result = replace(result, request=replace(request, steps=progress.step))
            yield result
        finally:
            stop.set()


class _ProgressTracker:
    """A callback that records the latest progress of an optimization and the seconds left, and stops it on request.

    Args:
        size: Shorter side of the result in pixels.
        stop: When it is set, the next call raises `Stop`.
    """

    def __init__(self, size: int, stop: threading.Event):
        self.size = size
        self.stop = stop
        self.sizes = list[int]()  # seen so far, coarse to fine
        self.latest: tuple[Progress, float] | None = None
        self._size_started = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """Record the progress; raise `Stop` if the optimization should end."""
        if progress.size not in self.sizes:
            self.sizes.append(progress.size)
            self._size_started = time.monotonic()
        elapsed = time.monotonic() - self._size_started
        self.latest = (progress, seconds_left(progress, self.size, elapsed))
        if self.stop.is_set():
            raise Stop(progress.picture)


def seconds_left(progress: Progress, side: int, seconds: float) -> float:
    """Return the estimated seconds until all sizes are optimized, assuming that time is proportional to pixels.

    Args:
        progress: The state of the optimization, at one of its sizes.
        side: Shorter side of the final size in pixels. Each size doubles the one before.
        seconds: The time spent at the current size.
    """
    finer_sizes = max(0, round(math.log2(side / progress.size)))
    steps_left = progress.steps - progress.step  # in units of a step at the current size
    for k in range(1, finer_sizes + 1):
        steps_left += progress.steps * 4**k
    return seconds / progress.step * steps_left
