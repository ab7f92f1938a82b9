"""Hostile weights and style codes: refused in one line, without running their code, or used."""

import json
import os
import pickle
import struct

import pytest
import torch
from hypothesis import given
from safetensors.torch import load, save

from adain.methods import style_codes, weights
from adain.models.checkpoint_io import CHECKPOINTS
from tests.fuzz import mutations
from tests.fuzz.conftest import examples
from tests.fuzz.handlers import METHOD
from tests.fuzz.test_images import check

METADATA = {"method": "johnson", "arguments": json.dumps({"width": 2, "blocks": 1})}


def small_method():
    torch.manual_seed(0)
    return weights.METHODS["johnson"](2, 1)


STATE = {name: tensor.contiguous() for name, tensor in small_method().state_dict().items()}
WEIGHTS = save(STATE, METADATA)


def code_file(tmp_path):
    path = tmp_path / "code.safetensors"
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    style_codes.save_code(METHOD.encode_style(image), METHOD, path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    return code_file(tmp_path_factory.mktemp("code"))


def ask(worker, folder, kind, data, suffix=".safetensors"):
    path = folder / f"hostile{suffix}"
    path.write_bytes(data)
    return check(worker.ask(kind, path=path))


def test_valid_files_are_accepted(worker, tmp_path, code):
    assert ask(worker, tmp_path, "weights", WEIGHTS).text == "Johnson"
    assert ask(worker, tmp_path, "code", code).outcome == "result"


@examples(0.1)
@given(mutations.MUTATION_LISTS)
def test_mutated_weights(worker, tmp_path_factory, changes):
    ask(worker, tmp_path_factory.getbasetemp(), "weights", mutations.mutated(WEIGHTS, changes))


@examples(0.1)
@given(mutations.MUTATION_LISTS)
def test_mutated_codes(worker, tmp_path_factory, code, changes):
    ask(worker, tmp_path_factory.getbasetemp(), "code", mutations.mutated(code, changes))


def with_metadata(**changes):
    return save(STATE, {**METADATA, **changes})


def with_arguments(**arguments):
    return with_metadata(arguments=json.dumps({"width": 2, "blocks": 1, **arguments}))


def with_value(value):
    name = next(iter(STATE))
    return save({**STATE, name: torch.full_like(STATE[name], value)}, METADATA)


def with_header(text):
    """A safetensors file with that header."""
    return struct.pack("<Q", len(text)) + text.encode()


HOSTILE_WEIGHTS = {
    "NaN": with_value(float("nan")),
    "infinity": with_value(float("inf")),
    "wide": with_arguments(width=10**9),
    "rather wide": with_arguments(width=3000),
    "deep": with_arguments(blocks=10**9),
    "deep and narrow": with_arguments(width=0, blocks=10**9),
    "negative": with_arguments(width=-1),
    "text": with_arguments(width="2"),
    "a list": with_arguments(width=[2]),
    "a fraction": with_arguments(width=2.5),
    "another argument": with_arguments(file="/etc/passwd"),
    "another width": with_arguments(width=3),
    "no arguments": with_metadata(arguments="null"),
    "deep arguments": with_metadata(arguments="[" * 100_000),
    "another method": with_metadata(method="adaconv"),
    "deep decoder": with_metadata(method="adain", arguments='{"extra_convolutions": 1000000000000}'),
    "no groups": with_metadata(method="adaconv", arguments='{"groups": [0, 0, 0, 0]}'),
    "method without weights": with_metadata(method="gatys", arguments="{}"),
    "no method": with_metadata(method="../../etc"),
    "no metadata": save(STATE),
    "no tensors": save({}, METADATA),
    "complex": save({**STATE, "net.0.weight": torch.zeros(2, dtype=torch.complex64)}, METADATA),
    "a code": None,
    "long header": struct.pack("<Q", 2**63) + b"{}",
    "no header": b"",
    "header of another kind": with_header("[]"),
    "huge tensor": with_header('{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4000000000000]}}'),
    "shapes that overflow": with_header(
        '{"a": {"dtype": "F32", "shape": [4294967296, 4294967296], "data_offsets": [0, 0]}}'
    ),
}


@pytest.mark.parametrize("name", sorted(HOSTILE_WEIGHTS))
def test_hostile_weights(worker, tmp_path, code, name):
    reply = ask(worker, tmp_path, "weights", HOSTILE_WEIGHTS[name] or code)
    assert reply.outcome == "error", reply


class Program:
    """Unpickled, it creates a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


def saved(value, tmp_path):
    torch.save(value, tmp_path / "saved")
    return (tmp_path / "saved").read_bytes()


def test_hostile_pickles(worker, tmp_path):
    checkpoint = {"adain": dict(METADATA), "state_dict": {f"method.{name}": value for name, value in STATE.items()}}
    assert ask(worker, tmp_path, "weights", saved(checkpoint, tmp_path), ".ckpt").outcome == "result"
    ones = torch.ones(1)
    endless = {**STATE, "net.0.weight": ones.expand(10**12)}  # one value in the file
    marker = tmp_path / "code-was-run"
    refused = [
        Program(marker),
        {"adain": Program(marker)},
        {"adain": 5, "state_dict": {}},
        {"adain": {"method": ["johnson"], "arguments": 5}, "state_dict": {}},
        {"adain": METADATA, "state_dict": {"method.net.0.weight": "text"}},
        {"adain": METADATA, "state_dict": {5: ones}},
        {"adain": METADATA, "state_dict": [ones]},
        {"adain": METADATA, "state_dict": {f"method.{name}": value for name, value in endless.items()}},
        {"adain": METADATA, "state_dict": {"method.net.0.weight": ones.to_sparse()}},
        {"28.weight": ones},
        {"28.weight": ones, "a": ones},
        [ones],
        5,
    ]
    for value in refused:
        for data in (saved(value, tmp_path), pickle.dumps(value)):
            reply = ask(worker, tmp_path, "weights", data, ".pth")
            assert reply.outcome == "error", (value, reply)
    assert not marker.exists()


def test_hostile_codes(worker, tmp_path, code):
    metadata = {"style": METHOD.name, "weights": weights.fingerprint(METHOD)}
    ((name, vector),) = load(code).items()
    hostile = {
        "NaN": save({name: vector * float("nan")}, metadata),
        "infinity": save({name: vector + float("inf")}, metadata),
        "overflow in the network": save({name: vector * 1e20}, metadata),
        "another name": save({"mean": vector}, metadata),
        "another length": save({name: vector[:, :5].contiguous()}, metadata),
        "another rank": save({name: vector[0].contiguous()}, metadata),
        "several": save({name: vector.repeat(3, 1)}, metadata),
        "none": save({name: vector[:0].contiguous()}, metadata),
        "integers": save({name: vector.long()}, metadata),
        "no tensors": save({}, metadata),
        "more": save({name: vector, "more": vector.clone()}, metadata),
        "another method": save({name: vector}, {**metadata, "style": "adain"}),
        "other weights": save({name: vector}, {**metadata, "weights": "0" * 16}),
        "weights": WEIGHTS,
    }
    for kind, data in hostile.items():
        assert ask(worker, tmp_path, "code", data).outcome == "error", kind


def test_embedded_weights_have_the_checksums_that_are_recorded(tmp_path, monkeypatch):
    from adain.models import checkpoint_io

    for path in CHECKPOINTS.glob("*.safetensors"):
        checkpoint_io._verify(path)  # if weights were trained anew: sha256sum *.safetensors > SHA256SUMS
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in (checkpoint_io.CHECKSUMS, "adain_lite.safetensors"):
        (folder / name).write_bytes((CHECKPOINTS / name).read_bytes())
    for module in (checkpoint_io, weights):
        monkeypatch.setattr(module, "CHECKPOINTS", folder)
    weights.load("adain-lite")
    data = bytearray((folder / "adain_lite.safetensors").read_bytes())
    data[-100] ^= 1
    (folder / "adain_lite.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="got another file; install adain again"):
        weights.load("adain-lite")
