"""Building of banks: encoding many styles."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from adain.augmentation.style_bank import (
    Source,
    StyleBank,
    check_bank,
    check_method,
    embedded_bank,
    load_bank,
    make_bank,
)
from adain.imaging import listing
from adain.imaging.options import DEFAULT_READ_OPTIONS, ReadOptions, check_size
from adain.inference.image_types import Style
from adain.inference.style_encoding import as_list, encode_style
from adain.methods import Method, StyleCode
from adain.utils.files import sha256_of

log = logging.getLogger(__name__)

Styles = str | Path | Style | Sequence[Style] | StyleBank | None
"""A folder, the file of a bank, one or several styles, a bank, or None for the embedded bank of the method."""


def build_bank(
    folder: str | Path,
    method: Method,
    style_size: int | None = 256,
    limit: int | None = None,
    read_options: ReadOptions = DEFAULT_READ_OPTIONS,
    quiet: bool = True,
    report: Callable[[str], object] = log.warning,
) -> StyleBank:
    """Encode the images of a folder and its subfolders. Of files with equal content, only the first is encoded.

    The styles are in the order of their digests, so the same images give the same bank under any names. Images that
    cannot be read are left out.

    Args:
        folder: Folder of style images.
        method: What `adain.prepare` returned: adain-lite, adain, or adaconv.
        style_size: Shorter side of each style in pixels; larger styles give coarser strokes. None keeps their own
            size, at most 1024.
        limit: Most styles to store. The distribution is fitted to all of them in any case.
        read_options: Which files are accepted.
        quiet: Show no progress.
        report: Called with the reason for each image that is left out; logs a warning by default.

    Raises:
        ValueError: A method without codes of a fixed size, an option that is out of range, or no image in the folder.
        OSError: There is no such folder, or none of its images can be read.
    """
    check_method(method)
    check_size(style_size)
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1 style, got {limit}")
    folder = Path(folder)
    if not folder.is_dir():
        raise NotADirectoryError(f"Expected a folder of styles, got {folder}")
    files = _distinct_files(folder, report)
    codes, sources = _encode_files(files, method, style_size, read_options, quiet, report)
    if not codes:
        raise OSError(f"Expected images that can be read in {folder}, got {len(files)} that cannot; check the folder")
    bank = make_bank(method, stacked(codes), sources)
    if limit is None:
        return bank
    stored = {name: part[:limit].clone() for name, part in bank.code.items()}
    return StyleBank(bank.method, bank.weights, stored, bank.sources[:limit], bank.gaussian)


def _distinct_files(folder: Path, report: Callable[[str], object]) -> dict[Source, Path]:
    """Return the images of a folder in the order of their digests, with the first path of each digest."""
    paths: dict[str, Path] = {}
    for path in listing.files(folder):
        try:
            paths.setdefault(sha256_of(path), path)
        except OSError as error:
            report(f"{path}: {error}")
    return {Source(path.relative_to(folder).as_posix(), digest): path for digest, path in sorted(paths.items())}


def _encode_files(
    files: dict[Source, Path],
    method: Method,
    style_size: int | None,
    read_options: ReadOptions,
    quiet: bool,
    report: Callable[[str], object],
) -> tuple[list[StyleCode], tuple[Source, ...]]:
    """Encode files one by one; also return the sources of those that could be read."""
    codes = []
    sources = []
    for source, path in tqdm(files.items(), unit=" styles", disable=quiet or None):
        try:
            codes.append(encode_style(method, path, style_size, read_options=read_options))
        except OSError as error:
            report(str(error))
        else:
            sources.append(source)
    return codes, tuple(sources)


def stacked(codes: Sequence[StyleCode]) -> StyleCode:
    """Concatenate codes (1, ...) to one code (N, ...)."""
    return {name: torch.cat([code[name] for code in codes]) for name in codes[0]}


def as_bank(styles: Styles, method: Method) -> StyleBank:
    """Return the bank that `RandomStyle` draws from.

    Args:
        styles: As `RandomStyle` takes them.
        method: The method that is to stylize.

    Raises:
        ValueError: A bank of other weights, no styles, or styles that are not images.
        OSError: A file or folder does not exist, or cannot be read.
    """
    check_method(method)
    if styles is None:
        return _load_embedded(method)
    if isinstance(styles, StyleBank):
        check_bank(styles, method, "the bank of styles", "build_bank")
        return styles
    if isinstance(styles, str | Path):
        if Path(styles).is_dir():
            return build_bank(styles, method)
        if Path(styles).suffix == ".safetensors":
            return load_bank(styles, method)
    # A batch of images is as many styles.
    images = list(styles) if isinstance(styles, torch.Tensor) and styles.dim() == 4 else as_list(styles)
    if not images:
        raise ValueError("Expected at least one style, got none; give images, a folder, or the file of a bank")
    codes = [encode_style(method, image) for image in images]
    sources = []
    for image, code in zip(images, codes, strict=True):
        rows = len(next(iter(code.values())))  # a batch of styles may have been encoded to one code
        sources += [source_of(image)] * rows
    return make_bank(method, stacked(codes), sources)


def source_of(image: Style) -> Source:
    """Return the name and the hash of a style's file; both are empty for a style that has no file."""
    if isinstance(image, str | Path):
        return Source(Path(image).name, sha256_of(Path(image)))
    return Source("", "")


def _load_embedded(method: Method) -> StyleBank:
    path = embedded_bank(method.name)
    if not path.is_file():
        raise ValueError(
            f"Expected styles for {method.name}, which has no embedded bank; "
            "give images, a folder, or the file of a bank that adain encode-style wrote"
        )
    return load_bank(path, method)
