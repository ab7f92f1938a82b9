"""The styles of a dataset run: a bank, images, or any dataset of images."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from adain.augmentation.bank_building import as_bank, build_bank, source_of, stacked
from adain.augmentation.style_bank import Source, StyleBank, check_method, flatten, make_bank
from adain.datasets import samples
from adain.datasets.folder_source import FolderSource
from adain.datasets.sources import open_source
from adain.imaging import reader
from adain.imaging.options import ReadOptions
from adain.inference.style_encoding import encode_style
from adain.methods import Method, StyleCode


def is_bank(name: str | Path | None) -> bool:
    """Return whether a name of styles is that of the file of a bank, or stands for the embedded bank."""
    return name is None or Path(name).suffix == ".safetensors"


def open_styles(
    name: str | Path | None,
    method: Method,
    style_size: int,
    read_options: ReadOptions,
    report: Callable[[str], object],
) -> StyleBank:
    """Return the bank of the styles that a name stands for. Images that cannot be read are reported and left out.

    Args:
        name: The file of a bank, an image, or a dataset as `open_source` takes it; None for the embedded bank.
        method: The method that is to stylize.
        style_size: Shorter side in pixels at which images are encoded.
        read_options: Which images are accepted.
        report: Called with the reason for each image that is left out.

    Raises:
        ValueError: A bank of other weights, or a method whose codes have no fixed size.
        OSError: There are no such styles, or none can be read.
    """
    check_method(method)
    if is_bank(name):
        return as_bank(name, method)
    assert name is not None  # it would be a bank
    path = Path(name)
    if path.is_file() and path.suffix not in (".tar", ".tgz", ".gz", ".parquet", ".arrow"):
        code = encode_style(method, path, style_size, read_options=read_options)
        return make_bank(method, code, [source_of(path)])
    source = open_source(name)
    if isinstance(source, FolderSource):
        return build_bank(path, method, style_size, read_options=read_options, report=report)
    return _encode(source, str(name), method, style_size, read_options, report)


def _encode(
    source: samples.Source,
    name: str,
    method: Method,
    style_size: int,
    read_options: ReadOptions,
    report: Callable[[str], object],
) -> StyleBank:
    """Encode the images of a dataset to a bank, in the order of their digests; of equal ones, only the first."""
    codes: dict[str, StyleCode] = {}
    names: dict[str, str] = {}
    for unit in source.units():
        for sample in source.read(unit):
            try:
                data = _bytes_of(sample)
                digest = hashlib.sha256(data).hexdigest()
                if digest not in codes:
                    codes[digest] = encode_style(method, reader.read(data, options=read_options), style_size)
                    names[digest] = sample.key
            except OSError as error:
                report(f"{name}, {sample.key}: {error}")
    if not codes:
        raise OSError(f"Expected images that can be read in {name}, got none; check the dataset")
    order = sorted(codes)
    sources = [Source(names[digest], digest) for digest in order]
    return make_bank(method, stacked([codes[digest] for digest in order]), sources)


def _bytes_of(sample: samples.Sample) -> bytes:
    if isinstance(sample.image, OSError):
        raise sample.image
    return sample.image if isinstance(sample.image, bytes) else sample.image.read_bytes()


def styles_digest(bank: StyleBank, style_size: int, from_bank: bool) -> str:
    """Return 16 hexadecimal digits that identify styles.

    Args:
        bank: The styles.
        style_size: The size at which they were encoded, if they come from images.
        from_bank: Whether they come from the file of a bank. Its codes are the same everywhere. Those that are encoded
            on two machines may differ in the last bit, so that styles from images are identified by their files.
    """
    if from_bank:
        parts = flatten(bank.code).numpy().tobytes()
    else:
        parts = " ".join([str(style_size), *(source.sha256 for source in bank.sources)]).encode()
    return hashlib.sha256(parts).hexdigest()[:16]
