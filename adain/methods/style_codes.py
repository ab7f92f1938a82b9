"""Saving and loading style codes."""

from pathlib import Path

from safetensors.torch import save

from adain.methods import Method, StyleCode
from adain.methods.weights import code_fingerprint
from adain.models.checkpoint_io import read_file
from adain.utils.files import atomic_path


def save_code(code: StyleCode, method: Method, path: str | Path) -> None:
    """Save a style code, as returned by `adain.encode_style`, to a .safetensors file.

    The file can be given wherever a style is taken. It is valid for the weights that encoded the style only, and
    therefore contains their fingerprint.

    Raises:
        ValueError: The path does not end in .safetensors, or the code is that of several styles or not finite.
        OSError: The file cannot be written.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"Expected a .safetensors file for the style code, got {path}")
    _check_single(code, f" for {path}")
    tensors = {name: tensor.float().contiguous().cpu() for name, tensor in code.items()}
    with atomic_path(path) as temporary:
        metadata = {"style": method.name, "weights": code_fingerprint(method)}
        temporary.write_bytes(save(tensors, metadata))


def load_code(path: str | Path, method: Method) -> StyleCode:
    """Load a style code, on the device of the method.

    Raises:
        ValueError: The file contains no style code, or one of another method or of other weights.
        OSError: There is no such file.
    """
    code, metadata = read_file(path)
    if "bank" in metadata:
        raise ValueError(f"Expected one style code, got the bank of many styles {path}; give it to adain.RandomStyle")
    if not metadata.keys() >= {"style", "weights"}:
        raise ValueError(f"{path} holds no style code; write one with adain encode-style")
    if (metadata["style"], metadata["weights"]) != (method.name, code_fingerprint(method)):
        raise ValueError(
            f"{path} was encoded by {metadata['style']} with other weights or settings; encode the style again"
        )
    check_code(code, method, f" in {path}")
    _check_single(code, f" in {path}")
    return {name: tensor.to(method.device) for name, tensor in code.items()}


def _check_single(code: StyleCode, where: str) -> None:
    """Raise ValueError, with `where` in the message, unless a code is that of one style and finite."""
    for name, tensor in code.items():
        if len(tensor) != 1 or not tensor.is_floating_point() or not tensor.isfinite().all():
            raise ValueError(f"Expected one style with finite values{where}, got other values or a batch in {name}")


def check_code(code: StyleCode, method: Method, where: str = "") -> None:
    """Raise ValueError, with `where` in the message, unless a code has the names and shapes of the method's codes."""
    expected = method.code_shapes
    if code.keys() != expected.keys():
        found = ", ".join(code) or "none"
        raise ValueError(
            f"Expected {', '.join(expected)} in the style code{where}, got {found}; encode the style with {method.name}"
        )
    for name, tensor in code.items():
        shape = expected[name]
        fits = tensor.dim() == len(shape) + 1 and tensor.numel() > 0
        for side, wanted in zip(tensor.shape[1:], shape, strict=False):
            fits = fits and wanted in (None, side)
        if not fits:
            sides = ", ".join("any" if side is None else str(side) for side in shape)
            raise ValueError(f"Expected {name} of shape (B, {sides}){where}, got {tuple(tensor.shape)}")
