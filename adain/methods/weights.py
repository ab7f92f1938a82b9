"""Weights: a name or a file to a ready method, and back. Nothing in a file is ever executed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from adain.methods import METHODS, Method
from adain.models.checkpoint_io import CHECKPOINTS, read_file
from adain.utils.checks import check_choice
from adain.utils.errors import shortened
from adain.utils.files import atomic_path

State = dict[str, Tensor]


def load(name: str | Path = "adain", **settings: Any) -> Method:
    """The method that embedded weights (a key of `METHODS`) or a file describe, in eval mode, float32, frozen.

    A file is what `convert` writes, a checkpoint of a training run, or a `decoder.pth` of naoto0804/pytorch-AdaIN.
    `settings` are arguments of a method that has no weights.

    Raises:
        ValueError: unknown method, or a file whose weights do not fit it, or settings where there are weights.
        OSError: no such file.
    """
    kind = METHODS.get(str(name))
    if kind and not kind.trained:
        return kind(**settings).eval()
    if settings:
        raise ValueError(f"{name} has weights, which settle its arguments; it takes no {', '.join(settings)}")
    path = embedded(str(name)) if kind else Path(name)
    if not path.is_file():
        known = ", ".join(METHODS)
        raise FileNotFoundError(f"{name} is neither a file of weights nor a method; the methods are {known}")
    state, metadata = read(path)
    method = fill(_build(metadata, path), state, path).eval().requires_grad_(False)
    method.loaded_fingerprint = fingerprint(method)
    # In fp16 the digest is the one in fp32, which rounds to fp16 first.
    method.loaded_digests = frozenset([method.loaded_fingerprint, _digest(method, torch.bfloat16)])
    return method


def embedded(name: str) -> Path:
    """The file with a method's embedded weights."""
    return CHECKPOINTS / f"{name.replace('-', '_')}.safetensors"


def _build(metadata: dict[str, str], origin: str | Path) -> Method:
    check_choice("method", metadata["method"], METHODS)
    try:
        return METHODS[metadata["method"]](**json.loads(metadata["arguments"]))
    except (TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{origin}: its arguments fit no {metadata['method']} of this version ({error})") from error


def fill(method: Method, state: State, origin: str | Path) -> Method:
    """Give `method` the weights read from `origin`, all of them; ValueError if they are another network's."""
    try:
        method.load_state_dict({name: tensor.float() for name, tensor in state.items()})
        method.loaded_fingerprint = None
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{origin} does not fit {type(method).__name__}: {shortened(reason, 300)}") from error
    return method


def read(path: str | Path) -> tuple[State, dict[str, str]]:
    """A method's trained weights, and the metadata that goes with them.

    The metadata are strings: `method`, a key of `METHODS`; `arguments`, JSON for its constructor; and from training
    `steps` and `recipe`, the YAML of the run. Raises as `load` does.
    """
    content, metadata = read_file(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not weights by name")
    if "adain" in content:  # a run's checkpoint
        missing = [key for key in ("method", "arguments") if key not in content["adain"]]
        if missing or "state_dict" not in content:
            raise ValueError(
                f"Expected the method, its arguments, and its weights in the checkpoint {path}, "
                f"got no {missing[0] if missing else 'weights'}; use a last.ckpt that training wrote"
            )
        weights = {key: value for key, value in content["state_dict"].items() if key.startswith("method.")}
        return {key.removeprefix("method."): value for key, value in weights.items()}, content["adain"]
    if metadata.keys() >= {"method", "arguments"}:
        return content, metadata
    if "28.weight" in content:  # the last of naoto0804's decoder, whose numbers count paddings and activations too
        return _renamed(content), {"method": "adain", "arguments": "{}", "recipe": "naoto0804/pytorch-AdaIN"}
    raise ValueError(f"{path} does not say which method it holds; write it with adain convert")


def _renamed(content: State) -> State:
    ours = [key.removesuffix(".weight") for key in METHODS["adain"]().state_dict() if key.endswith(".weight")]
    theirs = sorted({int(key.split(".")[0]) for key in content})
    if len(ours) != len(theirs):
        raise ValueError(f"this decoder has {len(theirs)} layers with weights, where VGG-19's mirror has {len(ours)}")
    pairs = zip(ours, theirs, strict=True)
    return {f"{a}.{kind}": content[f"{b}.{kind}"] for a, b in pairs for kind in ("weight", "bias")}


def metadata(method: Method, **extra: str) -> dict[str, str]:
    """What makes a file of `method`'s weights rebuild it unaided, with whatever else is worth saying."""
    return {"method": method.name, "arguments": json.dumps(method.arguments), **extra}


def fingerprint(method: Method) -> str:
    """16 hexadecimal digits that distinguish weights and arguments, whatever the precision the method runs in.

    What `load` returns keeps the fingerprint of its file in every precision, as long as its weights are not changed.
    """
    digest = _digest(method)
    if method.loaded_fingerprint and digest in method.loaded_digests:
        return method.loaded_fingerprint
    return digest


def _digest(method: Method, dtype: torch.dtype | None = None) -> str:
    """16 hexadecimal digits of the arguments and the weights, which are first rounded to `dtype` if there is one."""
    digest = hashlib.sha256(json.dumps(method.arguments, sort_keys=True).encode())
    for name, tensor in sorted(method.state_dict().items()):
        tensor = tensor.to(dtype) if dtype else tensor
        # Rounded as files and every precision of arithmetic round them.
        digest.update(name.encode() + tensor.half().bfloat16().contiguous().view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def convert(source: str, output: str) -> None:
    """Turn a training run's checkpoint, or naoto0804's decoder.pth, into a small safetensors file.

    The weights are stored in float16 with what rebuilds the network and the recipe that trained it.

    Args:
        source: a checkpoint of a run, such as last.ckpt; a run's averaged weights are taken where it keeps them.
        output: the file to write, ending in .safetensors.
    """
    if Path(output).suffix != ".safetensors":
        raise ValueError(f"the output is a .safetensors file, not {output}")
    state, meta = read(source)
    fill(_build(meta, source), state, source)
    with atomic_path(output) as temporary:
        temporary.write_bytes(save({name: tensor.half().contiguous() for name, tensor in state.items()}, meta))
