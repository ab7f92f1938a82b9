"""Saving and loading style codes."""

from pathlib import Path

import torch
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
        ValueError: the path does not end in .safetensors.
        OSError: the file cannot be written.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"Expected a .safetensors file for the style code, got {path}")
    tensors = {name: tensor.float().contiguous().cpu() for name, tensor in code.items()}
    with atomic_path(path) as temporary:
        metadata = {"style": method.name, "weights": code_fingerprint(method)}
        temporary.write_bytes(save(tensors, metadata))


def load_code(path: str | Path, method: Method) -> StyleCode:
    """Load a style code, on the device of the method.

    Raises:
        ValueError: the file contains no style code, or one of another method or of other weights.
        OSError: there is no such file.
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
    _check_code(code, method, path)
    return {name: tensor.to(method.device) for name, tensor in code.items()}


def _check_code(code: StyleCode, method: Method, path: str | Path) -> None:
    """Raise ValueError unless the code has the names and shapes of the method's codes, and finite values."""
    with torch.inference_mode():
        examples = []
        for strides in (2, 4):
            side = strides * method.stride
            examples.append(
                method.encode_style(torch.zeros(1, 3, side, side, device=method.device, dtype=method.dtype))
            )
    if code.keys() != examples[0].keys():
        raise ValueError(f"Expected {', '.join(examples[0])} in the style code {path}, got {', '.join(code) or 'none'}")
    for name, tensor in code.items():
        shapes = [example[name].shape for example in examples]
        # Sides that depend on the size of the style may be any.
        wanted = [side if side == other else None for side, other in zip(*shapes, strict=True)]
        fits = len(wanted) == tensor.dim() and tensor.numel() > 0
        for i, expected in enumerate(wanted):
            fits = fits and expected in (None, tensor.shape[i])
        if not fits:
            raise ValueError(f"Expected {name} of shape {shapes[0]} in {path}, got {tuple(tensor.shape)}")
        if not tensor.is_floating_point() or not tensor.isfinite().all():
            raise ValueError(f"Expected finite numbers in the style code {path}, got others in {name}")
