"""Banks: many pre-encoded styles in one file, with their provenance and a distribution fitted to them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from adain.augmentation.gaussian import Gaussian, fit
from adain.methods import EncoderDecoder, Method, StyleCode, Trainable, weights
from adain.models.checkpoint_io import CHECKPOINTS, read_file
from adain.utils.files import atomic_path


@dataclass(frozen=True)
class Source:
    """Where a style of a bank comes from."""

    file: str
    """Path in the folder of styles, with forward slashes; empty for a style that was not read from a file."""
    sha256: str
    """Digest of the file in hexadecimal digits; empty without a file."""


@dataclass(frozen=True)
class StyleBank:
    """Many style codes of one method. `build_bank` and `load_bank` make them."""

    method: str
    """Name of the method that encoded the styles."""
    weights: str
    """Fingerprint of its weights (`adain.methods.weights.fingerprint`)."""
    code: StyleCode
    """The codes of all styles: tensors (N, ...), float16, on the CPU."""
    sources: Sequence[Source]
    """The source of each style."""
    gaussian: Gaussian
    """Distribution of the flattened codes (`flatten`) of all styles that were encoded, even if fewer are stored."""

    def __len__(self) -> int:
        """Return the number of styles."""
        return len(self.sources)

    def draw(self, count: int) -> StyleCode:
        """Draw styles of the bank with torch's global generator: codes (count, ...), float32."""
        rows = torch.randint(len(self), (count,))
        return {name: part[rows].float() for name, part in self.code.items()}

    def draw_new(self, count: int) -> StyleCode:
        """Draw new styles from the distribution of codes, with torch's global generator: (count, ...), float32."""
        return unflatten(self.gaussian.draw(count), self.code)


def make_bank(method: Method, code: StyleCode, sources: Sequence[Source]) -> StyleBank:
    """Make a bank of the codes (N, ...) that the method encoded, and fit the distribution to them."""
    half = {name: part.half().cpu() for name, part in code.items()}
    return StyleBank(method.name, weights.fingerprint(method), half, sources, fit(flatten(code)))


def check_method(method: Method) -> None:
    """Raise ValueError unless the styles of the method can be stored in banks: all codes must have the same shape."""
    if not (isinstance(method, EncoderDecoder) and isinstance(method, Trainable)):
        raise ValueError(
            f"Expected a method that was trained for any style, adain-lite, adain, or adaconv, got {method.name}"
        )


def flatten(code: StyleCode) -> Tensor:
    """Convert codes (N, ...) to vectors (N, D), float32: their tensors in the order of their names."""
    return torch.cat([code[name].flatten(1).float().cpu() for name in sorted(code)], 1)


def unflatten(vectors: Tensor, like: StyleCode) -> StyleCode:
    """Convert vectors (N, D) to codes with the names and shapes of `like`."""
    names = sorted(like)
    sizes = [like[name][0].numel() for name in names]
    parts = vectors.split(sizes, 1)
    return {name: part.unflatten(1, like[name].shape[1:]) for name, part in zip(names, parts, strict=True)}


def embedded_bank(method: str) -> Path:
    """Return the path of the bank that comes with a method's embedded weights."""
    return CHECKPOINTS / f"{method.replace('-', '_')}_bank.safetensors"


def check_suffix(path: str | Path) -> None:
    """Raise ValueError unless the path of a bank ends in .safetensors."""
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"Expected a .safetensors file for the bank of styles, got {path}")


def save_bank(bank: StyleBank, path: str | Path) -> None:
    """Save a bank to a .safetensors file, in float16.

    Raises:
        ValueError: The path does not end in .safetensors.
        OSError: The file cannot be written.
    """
    check_suffix(path)
    tensors = {f"code.{name}": part for name, part in bank.code.items()}
    for field in fields(Gaussian):
        tensors[f"gaussian.{field.name}"] = getattr(bank.gaussian, field.name)
    halves = {name: tensor.half().contiguous() for name, tensor in tensors.items()}
    sources = json.dumps([asdict(source) for source in bank.sources])
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(halves, {"bank": bank.method, "weights": bank.weights, "sources": sources}))


def load_bank(path: str | Path, method: Method) -> StyleBank:
    """Load a bank of styles that `method` encoded.

    Raises:
        ValueError: The file contains no bank, or one of another method or of other weights.
        OSError: There is no such file.
    """
    tensors, metadata = read_file(path)
    if not metadata.keys() >= {"bank", "weights", "sources"}:
        raise ValueError(f"{path} holds no bank of styles; write one with adain encode-style --style FOLDER")
    names = [field.name for field in fields(Gaussian)]
    gaussian = Gaussian(**{name: tensors.pop(f"gaussian.{name}") for name in names})
    code = {name.removeprefix("code."): part for name, part in tensors.items()}
    sources = tuple(Source(**source) for source in json.loads(metadata["sources"]))
    bank = StyleBank(metadata["bank"], metadata["weights"], code, sources, gaussian)
    rebuild = "adain encode-style --style FOLDER"
    if Path(path) == embedded_bank(method.name):
        rebuild = "make bank STYLES=FOLDER"
    check_bank(bank, method, str(path), rebuild)
    return bank


def check_bank(bank: StyleBank, method: Method, name: str, rebuild: str) -> None:
    """Raise ValueError unless `method`, with its present weights, encoded the bank.

    Args:
        bank: The bank.
        method: The method that is to stylize.
        name: What the message calls the bank.
        rebuild: The command or function that makes the bank again.
    """
    if (bank.method, bank.weights) != (method.name, weights.fingerprint(method)):
        raise ValueError(
            f"{name} was encoded by {bank.method} with other weights than these of {method.name}; "
            f"rebuild it with {rebuild}"
        )
