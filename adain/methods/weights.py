"""Loading and saving of methods with their weights. Code in a file is never executed."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from adain.methods import METHODS, Method
from adain.models import hub
from adain.models.checkpoint_io import CHECKPOINTS, read_file
from adain.utils.caught_warnings import caught_warnings
from adain.utils.checks import check_choice, check_names, did_you_mean
from adain.utils.errors import shortened
from adain.utils.files import atomic_path, check_not_inputs

State = dict[str, Tensor]
"""Weights by name, as in a state dict."""

DRAWS = (nn.init.kaiming_uniform_, nn.init.uniform_, nn.init.normal_, Tensor.uniform_, Tensor.normal_)
"""Functions that draw initial weights, as a `TorchFunctionMode` intercepts them."""


def load(name: str | Path = "adain", **settings: Any) -> Method:
    """Load a method with its weights, in eval mode, in float32, without gradients.

    >>> type(adain.load("adain-lite")).__name__
    'AdaINLite'

    Args:
        name: A key of `METHODS` for its embedded weights, or a file: one written by `convert`, a checkpoint of a
            training run, or a `decoder.pth` of naoto0804/pytorch-AdaIN; or a repository of the Hugging Face Hub, such
            as `user/name`, that `adain.push_to_hub` wrote, which is downloaded once.
        settings: Arguments of a method without weights.

    Raises:
        ValueError: Unknown method or setting, a file whose weights do not fit the method, or settings for a method with
            weights.
        OSError: There is no such file.
    """
    kind = METHODS.get(str(name))
    if kind and not kind.trained:
        check_names(settings, kind)
        return kind(**settings).eval()
    if settings:
        raise ValueError(f"{name} has weights, which determine its arguments; it takes no {', '.join(settings)}")
    path = locate(name)
    state, metadata = read(path)
    method = fill(_build(metadata, state, path), state, path)
    method = method.float().eval().requires_grad_(False)
    method.loaded_fingerprint = fingerprint(method)
    # The digest in fp16 equals the one in fp32, because a digest rounds to fp16 first.
    method.loaded_digests = frozenset([method.loaded_fingerprint, _digest(method, torch.bfloat16)])
    return method


def locate(name: str | Path) -> Path:
    """Return the path of the weights that `load` loads for this name. Raise the errors of `load` if none exist."""
    if str(name) in METHODS:
        return embedded(str(name))
    path = Path(name)
    if path.is_file():
        return path
    if hub.is_repository(name):
        return hub.download(str(name))
    known = ", ".join(METHODS)
    if path.suffix or len(path.parts) > 1 or "\\" in str(name):
        raise FileNotFoundError(f"{name} is neither a file of weights nor a method; the methods are {known}")
    raise ValueError(f"unknown method {name}; choose from {known}{did_you_mean(str(name), METHODS)}")


def embedded(name: str) -> Path:
    """Return the path of a method's embedded weights."""
    return CHECKPOINTS / f"{name.replace('-', '_')}.safetensors"


def _build(metadata: dict[str, str], state: State, origin: str | Path) -> Method:
    """Build the method that the metadata of `origin` describe. Its weights are not initialized; `fill` loads them.

    The arguments come from a file that is not trusted. A network with more weights than `state` is refused: building it
    could use up the memory, or never end.
    """
    name = metadata["method"]
    check_choice("method", name, METHODS)
    try:
        arguments = json.loads(metadata["arguments"])
        stored = sum(tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in state.values())
        too_large = f"{origin} does not fit {METHODS[name].__name__}: its arguments make a larger network"
        with (
            _Construction(stored, too_large),
            caught_warnings(),
        ):  # of layers without channels, whose weights `fill` then refuses
            return METHODS[name](**arguments)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, json.JSONDecodeError) as error:
        reason = shortened(str(error), 200)
        raise ValueError(
            f"Expected valid arguments of {name} in {origin} ({reason}); use the version of adain that wrote it"
        ) from error


class _Construction(TorchFunctionMode):
    """Within this mode, modules are built without drawing initial weights, and their total size is limited.

    Drawing would advance torch's global generator. ValueError is raised with `message` as soon as modules allocate
    more than `elements` elements, with some room for other tensors. By default, there is no limit.
    """

    room = 2**20
    least = 2**10
    """Minimum number of elements that an allocation counts as, which also limits the number of allocations."""

    def __init__(self, elements: float = math.inf, message: str = ""):
        super().__init__()
        self.remaining = elements + self.room
        self.message = message

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the function unless it draws. `torch.empty`, by which modules allocate, is called if the size fits."""
        kwargs = kwargs or {}
        if func in DRAWS:
            return args[0] if args else kwargs["tensor"]
        if func is torch.empty and str(kwargs.get("device")) != "meta":  # the meta device has no memory
            size = args[0] if args and isinstance(args[0], tuple | list) else args
            self.remaining -= max(self.least, math.prod(size))
            if self.remaining < 0:
                raise ValueError(self.message)
        return func(*args, **kwargs)


def fill(method: Method, state: State, origin: str | Path) -> Method:
    """Load all weights of `method` and return it.

    Args:
        method: The method to change.
        state: The weights.
        origin: Where the weights come from, for the error message.

    Raises:
        ValueError: The weights do not fit the method, or are not finite.
    """
    versioned = method.state_dict()
    versioned.clear()  # what stays are versions of the modules: batch norm without one expects keys of its own
    versioned.update(state)
    try:
        method.load_state_dict(versioned)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{origin} does not fit {type(method).__name__}: {shortened(reason, 300)}") from error
    for name, tensor in method.state_dict().items():  # not those of the file, which may be views of any size
        if not tensor.isfinite().all():
            raise ValueError(f"Expected finite weights in {origin}, got NaN or infinity in {name}")
    method.loaded_fingerprint = None
    return method


def read(path: str | Path) -> tuple[State, dict[str, str]]:
    """Read the trained weights of a method, and their metadata.

    The metadata are strings: `method`, a key of `METHODS`; `arguments`, JSON for its constructor; and after training,
    `steps` and `recipe`, the YAML of the run.

    Raises:
        ValueError: The file does not contain the weights of a method.
        OSError: There is no such file.
    """
    content, metadata = read_file(path)
    if not isinstance(content, dict):
        raise ValueError(f"Expected weights by name in {path}, got a {type(content).__name__}")
    if "adain" in content:
        content, metadata = _read_checkpoint(content, path)
    elif not metadata.keys() >= {"method", "arguments"}:
        if "28.weight" not in content:  # the last layer of naoto0804's decoder
            raise ValueError(f"{path} does not say which method it holds; write it with adain convert")
        metadata = {"method": "adain", "arguments": "{}", "recipe": "naoto0804/pytorch-AdaIN"}
        content = _rename_naoto0804(content, path)
    _check_weights(content, path)
    return content, metadata


def read_checked(path: str | Path) -> tuple[State, dict[str, str]]:
    """As `read`, but also raise ValueError if the method is unknown, or the weights do not fit it or are not finite."""
    state, metadata = read(path)
    fill(_build(metadata, state, path), state, path)
    return state, metadata


def _check_weights(content: Any, path: str | Path) -> None:
    """Raise ValueError unless the content is weights by name: ordinary tensors of real numbers."""
    for name, tensor in content.items():
        is_tensor = isinstance(name, str) and isinstance(tensor, Tensor)
        if not is_tensor or tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
            found = f"a tensor of {tensor.dtype}" if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
            raise ValueError(f"Expected tensors of real numbers in {path}, got {found} as {shortened(str(name), 50)}")


def _read_checkpoint(content: dict[str, Any], path: str | Path) -> tuple[State, dict[str, str]]:
    """Return the weights of the method and the metadata in a checkpoint of a training run."""
    metadata = content["adain"]
    state_dict = content.get("state_dict")
    missing = []
    for key in ("method", "arguments"):
        if not isinstance(metadata, dict) or not isinstance(metadata.get(key), str):
            missing.append(key)
    if not isinstance(state_dict, dict):
        missing.append("weights")
    if missing:
        raise ValueError(
            f"Expected the method, its arguments, and its weights in the checkpoint {path}, "
            f"got no {missing[0]}; use a last.ckpt that training wrote"
        )
    prefix = "method."
    state = {}
    for key, tensor in content["state_dict"].items():
        if str(key).startswith(prefix):
            state[key.removeprefix(prefix)] = tensor
    return state, metadata


def _rename_naoto0804(content: State, path: str | Path) -> State:
    """Rename the weights of naoto0804's decoder, whose layer numbers also count paddings and activations."""
    with _Construction():
        method = METHODS["adain"]()
    names = [key.removesuffix(".weight") for key in method.state_dict() if key.endswith(".weight")]
    numbers = set()
    for key in content:
        match = re.fullmatch(r"(\d+)\.(weight|bias)", str(key))
        if not match:
            raise ValueError(f"Expected names such as 28.weight in {path}, got {shortened(str(key), 50)}")
        numbers.add(match[1])
    if len(names) != len(numbers):
        raise ValueError(f"Expected a decoder with {len(names)} layers with weights, got {len(numbers)} layers")
    renamed = {}
    for name, number in zip(names, sorted(numbers, key=int), strict=True):
        for kind in ("weight", "bias"):
            if f"{number}.{kind}" not in content:
                raise ValueError(f"Expected {number}.{kind} in {path}, got weights without it")
            renamed[f"{name}.{kind}"] = content[f"{number}.{kind}"]
    return renamed


def metadata(method: Method, **extra: str) -> dict[str, str]:
    """Return the metadata with which a file of weights rebuilds `method`, together with `extra`."""
    return {"method": method.name, "arguments": json.dumps(method.arguments), **extra}


def fingerprint(method: Method) -> str:
    """Return 16 hexadecimal digits that identify weights and arguments, independent of the precision.

    A method from `load` keeps the fingerprint of its file in every precision, as long as its weights do not change.
    """
    digest = _digest(method)
    if method.loaded_fingerprint and digest in method.loaded_digests:
        return method.loaded_fingerprint
    return digest


def code_fingerprint(method: Method) -> str:
    """Return the fingerprint of what determines style codes: without arguments that only affect how they are used."""
    if method.code_arguments is None:
        return fingerprint(method)
    return _digest(method, arguments={name: method.arguments[name] for name in method.code_arguments})


def _digest(method: Method, dtype: torch.dtype | None = None, arguments: Mapping[str, Any] | None = None) -> str:
    """Return 16 hexadecimal digits of weights and arguments.

    Args:
        method: The method.
        dtype: What the weights are first rounded to, if given.
        arguments: Arguments that count; by default all.
    """
    counted = method.arguments if arguments is None else arguments
    digest = hashlib.sha256(json.dumps(counted, sort_keys=True).encode())
    for name, tensor in sorted(method.state_dict().items()):
        if dtype:
            tensor = tensor.to(dtype)
        # Files round to float16, and the other precisions round to bfloat16.
        rounded = tensor.half().bfloat16().contiguous()
        digest.update(name.encode() + rounded.view(torch.int16).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def convert(source: str, output: str) -> None:
    """Convert a checkpoint of a training run, or naoto0804's decoder.pth, to a small safetensors file.

    The weights are stored in float16, together with the arguments that rebuild the network and the training recipe.

    Args:
        source: Checkpoint of a run, such as last.ckpt. Averaged weights are used if the run stored them.
        output: File to write, ending in .safetensors.

    Raises:
        ValueError: `source` does not contain the weights of a method, or `output` has another suffix or is `source`.
        OSError: A file cannot be read or written.
    """
    if Path(output).suffix != ".safetensors":
        raise ValueError(f"Expected an output that is a .safetensors file, got {output}")
    check_not_inputs([output], [source])
    state, meta = read_checked(source)
    with atomic_path(output) as temporary:
        temporary.write_bytes(save(half(state), meta))


def half(state: State) -> State:
    """Return the weights in float16 on the CPU, as files store them."""
    return {name: tensor.detach().cpu().half().contiguous() for name, tensor in state.items()}
