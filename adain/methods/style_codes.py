"""Saving and loading style codes."""

from pathlib import Path

from safetensors.torch import save

from adain.methods import Method, StyleCode
from adain.methods.weights import fingerprint
from adain.models.checkpoint_io import read_file
from adain.utils.files import atomic_path


def save_code(code: StyleCode, method: Method, path: str | Path) -> None:
    """Keep what `adain.encode_style` returned in a .safetensors file, to be given wherever a style is taken.

    It holds for the weights that it was made with, whose fingerprint goes with it.
    """
    if Path(path).suffix != ".safetensors":
        raise ValueError(f"a style code is kept in a .safetensors file, not {path}")
    tensors = {name: tensor.float().contiguous().cpu() for name, tensor in code.items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, {"style": method.name, "weights": fingerprint(method)}))


def load_code(path: str | Path, method: Method) -> StyleCode:
    """The style code in a file; ValueError if it holds none, or one of another method or other weights."""
    code, about = read_file(path)
    if not about.keys() >= {"style", "weights"}:
        raise ValueError(f"{path} holds no style code; write one with adain encode-style")
    if (about["style"], about["weights"]) != (method.name, fingerprint(method)):
        raise ValueError(
            f"{path} was encoded by {about['style']} with other weights than these; encode the style again"
        )
    return {name: tensor.to(method.device) for name, tensor in code.items()}
