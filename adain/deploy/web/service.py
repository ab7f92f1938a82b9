"""What the web page asks for: orders, their command lines, and where they are painted."""

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
from adain.inference import pipeline, preparation, style_encoding
from adain.inference.options import Color
from adain.methods import METHODS, StyleCode
from adain.methods.progress import Progress, Stop

KEPT = 2 * 3600  # seconds that uploads and results are kept
STYLES_KEPT = 16  # codes of styles; style-swap's are tens of MB each
PREVIEW = 1.0  # seconds between two looks at an optimization
SHOWN = 640  # pixels, longer side, of what is shown of an upload
LONGEST = 80  # characters of an upload's name in a result's


@dataclass(frozen=True)
class Upload:
    """A picture that a visitor gave, or chose among the examples."""

    path: str
    name: str  # as the visitor knows it, for the command line
    sides: tuple[int, int]  # in pixels


@dataclass(frozen=True)
class StylizeRequest:
    """What to paint, and how."""

    content: Upload
    styles: tuple[Upload, ...]
    method: str
    alpha: float
    mix: float  # the second style's share, if there are two
    color: Color
    size: int  # shorter side in pixels
    steps: int  # of a method that takes steps
    device: str

    @property
    def shares(self) -> list[float]:
        """One for each style."""
        return [round(1 - self.mix, 2), self.mix] if len(self.styles) == 2 else [1.0] * len(self.styles)

    @property
    def settings(self) -> dict[str, Any]:
        """What a method that takes steps is built with."""
        return {"steps": self.steps} if METHODS[self.method].iterative else {}

    def name(self) -> str:
        """Of the result, as the command line names it."""
        content, *styles = (Path(upload.name).stem[:LONGEST] for upload in (self.content, *self.styles))
        return f"{content}__{'+'.join(styles) or self.method}.png"

    def command(self) -> str:
        """The command line that paints the same picture, run where the pictures are."""
        flags: dict[str, Sequence[object]] = {
            "content": [self.content.name],
            "style": [style.name for style in self.styles],
            "style-weight": self.shares if len(self.styles) == 2 else [],
            "method": [self.method],
            "alpha": [self.alpha] if self.styles else [],
            "size": [self.size],
            "color": [self.color] if self.color != "style" else [],
            **{f"{self.method}.{name}": [value] for name, value in self.settings.items()},
            "device": [self.device] if self.device != "auto" else [],
        }
        words = ["python", "infer.py"]
        for flag in filter(flags.get, flags):
            # A name with a dash in front would be taken for a flag.
            words += [f"--{flag}", *(f"./{one}" if str(one).startswith("-") else f"{one}" for one in flags[flag])]
        return shlex.join(words)


@dataclass(frozen=True)
class StylizeResult:
    """A result's file, and the order that paints it."""

    order: StylizeRequest
    path: Path


class StylizeService:
    """Where orders are painted. Methods and codes of styles are kept; results go to a folder of its own.

    Args:
        folder: for the results.
        device: as `adain.prepare` takes it.
        max_pixels: of an upload, and of a result.
    """

    def __init__(self, folder: str | Path, device: str, max_pixels: int):
        self.folder, self.device, self.max_pixels = Path(folder), device, max_pixels
        self.runs = dict[str, threading.Event]()  # what stops a visitor's optimization
        self.pool = ThreadPoolExecutor(2)  # an optimization does not keep the others waiting
        self.method = lru_cache(maxsize=None)(partial(preparation.prepare, device=device))
        self.code = lru_cache(maxsize=STYLES_KEPT)(self._code)

    def close(self) -> None:
        """Stop what is being optimized, and wait until all is still."""
        for visitor in [*self.runs]:
            self.end(visitor)
        self.pool.shutdown(cancel_futures=True)

    def begin(self, visitor: str) -> threading.Event:
        """What stops the visitor's next optimization; one that still runs is ended."""
        self.end(visitor)
        return self.runs.setdefault(visitor, threading.Event())

    def stop(self, visitor: str) -> None:
        """Be content with what the visitor's optimization has reached."""
        if run := self.runs.get(visitor):
            run.set()

    def end(self, visitor: str) -> None:
        """Stop the visitor's optimization and forget it."""
        self.stop(visitor)
        self.runs.pop(visitor, None)

    def look(self, path: str, name: str) -> tuple[Upload, Image.Image]:
        """An upload, and what to show of it; OSError if it is no picture, or too large."""
        image = reader.read(path, options=ReadOptions(self.max_pixels))
        upload = Upload(path, name, image.size)
        image.thumbnail((SHOWN, SHOWN))
        return upload, image

    def paint(self, order: StylizeRequest, callback: Callable[[Progress], None] | None = None) -> StylizeResult:
        """The result, in a file.

        Raises:
            ValueError: a result of more than `max_pixels`.
            OSError: an upload that is no longer there.
        """
        short, long = sorted(order.content.sides)
        if order.size**2 * long / short > self.max_pixels:
            raise ValueError(f"the result would have over {self.max_pixels} pixels; choose a smaller size")
        if gone := [upload.name for upload in (order.content, *order.styles) if not Path(upload.path).exists()]:
            raise FileNotFoundError(f"{gone[0]} was deleted after {KEPT // 3600} hours; upload it again")
        photo = reader.load(order.content.path, order.size, ReadOptions(self.max_pixels))
        if METHODS[order.method].iterative:
            ready = preparation.prepare(order.method, self.device, callback=callback, **order.settings)
        else:
            ready = self.method(order.method)
        styles: Any = [style.path for style in order.styles]
        options: dict[str, Any] = {"style_weight": order.shares} if styles else {}
        if styles and order.color != "coral":  # which recolors the pictures first
            codes = styles if ready.iterative else [self.code(order.method, path) for path in styles]
            styles = style_encoding.encode_style(ready, codes, None, options.pop("style_weight"))
        options |= {"alpha": order.alpha} if styles else {}
        painted = pipeline.stylize(photo, styles or None, ready, color=order.color, **options)
        target = self.folder / uuid.uuid4().hex / order.name()
        writer.save(painted.pixels, target, like=painted)
        return StylizeResult(order, target)

    def _code(self, method: str, path: str) -> StyleCode:
        return style_encoding.encode_style(self.method(method), path)

    def optimize(
        self, order: StylizeRequest, stop: threading.Event
    ) -> Iterator[tuple[Progress, float] | StylizeResult]:
        """How far it is and the seconds left, now and then; in the end the result."""
        started, sizes, latest = time.monotonic(), list[int](), list[tuple[Progress, float]]()

        def note(progress: Progress) -> None:
            nonlocal started
            if progress.size not in sizes:
                sizes.append(progress.size)
                started = time.monotonic()
            latest[:] = [(progress, seconds_left(progress, order.size, time.monotonic() - started))]
            if stop.is_set():
                raise Stop(progress.picture)

        future: Future[StylizeResult] = self.pool.submit(self.paint, order, note)
        try:
            while wait([future], timeout=PREVIEW).not_done:
                yield from latest[-1:]
            painted = future.result()
            # Of one size only, which is whole strides, fewer steps paint the same.
            if stop.is_set() and len(sizes) == 1 and sizes[0] >= order.size:
                painted = replace(painted, order=replace(order, steps=latest[0][0].step))
            yield painted
        finally:
            stop.set()  # the visitor may have left


def seconds_left(progress: Progress, side: int, seconds: float) -> float:
    """Until all sizes up to `side` are done, if a step takes as long as pixels are many; `seconds` went on this one."""
    finer = max(0, round(math.log2(side / progress.size)))
    passes = progress.steps - progress.step + progress.steps * sum(4**k for k in range(1, finer + 1))
    return seconds / progress.step * passes
