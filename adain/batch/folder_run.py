"""The work of a folder run: contents are read, grouped into batches, and stylized."""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from adain.batch.jobs import Job
from adain.batch.options import RunOptions
from adain.batch.reading import pixel_count, read_content, read_in_advance
from adain.imaging.options import ReadOptions
from adain.imaging.photo import Photo
from adain.inference import pipeline, style_encoding
from adain.inference.options import StyleOptions
from adain.methods import Method, StyleCode
from adain.utils.errors import INPUT_ERRORS, one_line

BATCH_PIXELS = 2**21
"""Largest number of pixels of a batch: eight images of 512 x 512. Larger batches save no time, but need more memory."""

BATCHES_WAITING = 8
"""Largest number of images that wait for others of their size, in batches."""

CODES_CACHED = 512
"""Styles whose codes are cached."""

LARGE_CODES_CACHED = 16
"""The same for methods whose codes take tens of megabytes."""


@dataclass(frozen=True)
class Unit:
    """A job that is ready to be stylized."""

    job: Job
    content: Photo
    style: StyleCode | Path | None
    """The code of the style; or its file, if it must be encoded for the content."""


@dataclass(frozen=True)
class Stylized:
    """A finished job."""

    job: Job
    result: Photo
    seconds: float


class FolderRun:
    """Reads and stylizes the images of jobs.

    Args:
        method: Ready to stylize.
        options: How images are stylized; the jobs have their own alpha.
        size: Shorter side of the results in pixels; None for each content's own.
        read_options: Which files are accepted.
        run_options: How the run works.

    Attributes:
        failures: Why images could not be read or stylized, by path.
    """

    def __init__(
        self,
        method: Method,
        options: StyleOptions,
        size: int | None,
        read_options: ReadOptions,
        run_options: RunOptions,
    ):
        self.method = method
        self.options = options
        self.read_options = read_options
        self.batch_size = 1 if method.iterative else run_options.batch_size
        self.workers = run_options.workers
        self.failures = dict[Path, str]()
        self._read = partial(read_content, size=size, options=read_options)
        # With coral, styles get the colors of each content before they are encoded.
        self.encodes_once = method.takes_style and options.color != "coral"
        cached = CODES_CACHED if method.supports_mixing and not method.iterative else LARGE_CODES_CACHED
        self._encode = lru_cache(cached)(
            partial(style_encoding.encode_style, method, read_options=read_options),
        )

    def results(self, jobs: Sequence[Job]) -> Iterator[Stylized]:
        """Stylize the jobs. Those that fail are left out and noted in `failures`."""
        for batch in batches(self._units(jobs), self.batch_size):
            yield from self._stylize_batch(batch)

    def _units(self, jobs: Sequence[Job]) -> Iterator[Unit]:
        """Yield the jobs with their styles and their contents, each of which is decoded once and in advance."""
        by_content = defaultdict[Path, list[Job]](list)
        for job in jobs:
            by_content[job.content].append(job)
        contents = read_in_advance([*by_content], self._read, self.workers)
        for (path, same_content), content in zip(by_content.items(), contents, strict=True):
            if isinstance(content, str):
                self.failures[path] = content
                continue
            for job in same_content:
                try:
                    style = self._style(job, content)
                except INPUT_ERRORS as error:
                    self.failures[job.style or path] = one_line(error)
                else:
                    yield Unit(job, content, style)

    def _style(self, job: Job, content: Photo) -> StyleCode | Path | None:
        if not self.encodes_once:
            return job.style
        side = style_encoding.style_side(self.options.style_size, content.pixels, self.options.work_size)
        return self._encode(job.style, side)

    def _stylize_batch(self, batch: Sequence[Unit]) -> Iterator[Stylized]:
        """Stylize units of one size, style and strength at once; if that fails, one by one."""
        start = time.perf_counter()
        try:
            pixels = self._stylize(batch)
        except INPUT_ERRORS as error:
            if len(batch) > 1:
                for unit in batch:
                    yield from self._stylize_batch([unit])
            else:
                job = batch[0].job
                path = job.content
                if isinstance(error, OSError) and job.style:
                    path = job.style  # the content was read before
                self.failures[path] = one_line(error)
            return
        seconds = (time.perf_counter() - start) / len(batch)
        for unit, stylized in zip(batch, pixels.split(1), strict=True):
            yield Stylized(unit.job, replace(unit.content, pixels=stylized), seconds)

    def _stylize(self, batch: Sequence[Unit]) -> torch.Tensor:
        pixels = batch[0].content.pixels
        if len(batch) > 1:
            pixels = torch.cat([unit.content.pixels for unit in batch])
        options = replace(self.options, alpha=batch[0].job.alpha)
        if self.encodes_once:
            options = replace(options, style_size=None)  # the codes have it
        content = Photo(pixels)
        return pipeline.stylize(
            content, _joined_style(batch), self.method, options=options, read_options=self.read_options
        ).pixels


def _joined_style(batch: Sequence[Unit]) -> StyleCode | Path | None:
    """Return the style of a batch: one for all, or codes stacked in the order of the contents."""
    first = batch[0].style
    if not isinstance(first, dict) or all(unit.style is first for unit in batch):
        return first
    codes: list[Any] = [unit.style for unit in batch]
    return {name: torch.cat([code[name] for code in codes]) for name in first}


def batches(units: Iterable[Unit], batch_size: int) -> Iterator[list[Unit]]:
    """Group units that can be stylized at once. If too many wait for others of their kind, the oldest go first."""
    waiting: dict[str, list[Unit]] = {}
    for unit in units:
        kind = _kind(unit)
        waiting.setdefault(kind, []).append(unit)
        full = min(batch_size, BATCH_PIXELS // pixel_count(unit.content))
        if isinstance(unit.style, Path):
            full = 1
        if len(waiting[kind]) >= full:
            yield waiting.pop(kind)
        elif sum(map(len, waiting.values())) >= BATCHES_WAITING * batch_size:
            oldest = next(iter(waiting))
            yield waiting.pop(oldest)
    yield from waiting.values()


def _kind(unit: Unit) -> str:
    """Return a key that is equal for units that can be stylized in one batch."""
    style: Any = unit.style
    if isinstance(style, dict):
        style = [(name, value.shape) for name, value in style.items()]
    pixels = unit.content.pixels
    return str((pixels.shape, pixels.dtype, unit.job.alpha, style))
