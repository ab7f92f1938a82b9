import json
import subprocess
import sys

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import adain
from adain.functional.statistics import compute_statistics
from adain.inference import preparation
from adain.methods import METHODS, Trainable, style_codes, weights
from tests.methods.test_methods import TRAINED


@pytest.fixture(scope="module")
def small():
    """A small AdaIN with arguments other than the defaults."""
    return METHODS["adain"](layer="relu2_1", norm="instance", padding="zeros")


def write(method, path, changes=None):
    state = {key: tensor.half() for key, tensor in method.state_dict().items()}
    save_file(state, path, {**weights.metadata(method, recipe="by hand"), **(changes or {})})
    return path


def test_a_file_rebuilds_its_method(small, tmp_path):
    loaded = weights.load(write(small, tmp_path / "small.safetensors"))
    assert loaded.arguments == small.arguments
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    content = torch.rand(1, 3, 32, 32)
    code = small.eval().encode_style(content)
    torch.testing.assert_close(loaded.stylize(content, code), small.stylize(content, code), atol=0.01, rtol=0.01)


@pytest.mark.parametrize("name", TRAINED)
def test_the_embedded_weights_load(name):
    method = weights.load(name)
    assert type(method) is METHODS[name]
    assert all(parameter.dtype == torch.float32 and parameter.isfinite().all() for parameter in method.parameters())


@pytest.mark.parametrize("name", [*TRAINED, "wct", "style-swap"])
def test_loading_draws_nothing(name):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    adain.load(name)
    assert torch.equal(torch.rand(1), expected)


DOUBLE = """
import torch
torch.set_default_dtype(torch.float64)
import adain
content = torch.rand(1, 3, 40, 40, dtype=torch.float32)
for name, settings in {"adain": {}, "adain-lite": {"regions": 2}, "gatys": {"steps": 2, "init": "noise"}}.items():
    assert adain.stylize(content, content.flip(3), name, device="cpu", **settings).dtype == torch.float32
assert adain.load("adain-lite").dtype == torch.float32
for draw in ("bank", "gaussian"):
    assert adain.RandomStyle(1.0, draw=draw)(content).dtype == torch.float32
"""


def test_another_default_type_changes_nothing():
    done = subprocess.run([sys.executable, "-c", DOUBLE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", TRAINED)
def test_the_embedded_weights_say_where_they_come_from(name):
    _, metadata = weights.read(weights.embedded(name))
    assert int(metadata["steps"]) > 0
    assert "trainer" in metadata["recipe"]
    assert weights.embedded(name).with_suffix(".md").exists(), "there is a model card next to the weights"


def numbered(method):
    """Return the decoder weights in naoto0804's numbering, which also counts paddings and activations."""
    numbers = [1, 5, 8, 11, 14, 18, 21, 25, 28]
    names = [key.removesuffix(".weight") for key in method.state_dict() if key.endswith("weight")]
    pairs = [(name, number) for name, number in zip(names, numbers, strict=True)]
    return {f"{b}.{kind}": method.state_dict()[f"{a}.{kind}"] for a, b in pairs for kind in ("weight", "bias")}


def test_the_decoder_of_naoto0804_is_imported(tmp_path):
    method = METHODS["adain"]()
    torch.save(numbered(method), tmp_path / "decoder.pth")
    weights.convert(tmp_path / "decoder.pth", str(tmp_path / "ours.safetensors"))
    loaded = weights.load(tmp_path / "ours.safetensors")
    for name, tensor in method.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor.half().float())


def test_importing_the_decoder_of_naoto0804_draws_nothing(tmp_path):
    torch.save(numbered(METHODS["adain"]()), tmp_path / "decoder.pth")
    before = torch.get_rng_state()
    weights.load(tmp_path / "decoder.pth")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_converted_file_is_half_precision_and_carries_its_metadata(tmp_path):
    torch.save(numbered(METHODS["adain"]()), tmp_path / "decoder.pth")
    weights.convert(tmp_path / "decoder.pth", str(tmp_path / "ours.safetensors"))
    with safe_open(tmp_path / "ours.safetensors", "pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
        assert file.metadata()["method"] == "adain"
        assert json.loads(file.metadata()["arguments"]) == {}


def test_wrong_files(small, tmp_path):
    with pytest.raises(OSError, match=r"mine\\weights is neither a file of weights nor a method"):
        weights.load(r"mine\weights")
    with pytest.raises(OSError, match=r"elsewhere.safetensors is neither a file of weights nor a method"):
        weights.load(tmp_path / "elsewhere.safetensors")
    with pytest.raises(ValueError, match="unknown method magic; choose from adain"):
        weights.load(write(small, tmp_path / "magic.safetensors", {"method": "magic"}))
    with pytest.raises(ValueError, match="does not fit AdaIN"):
        weights.load(write(small, tmp_path / "other.safetensors", {"arguments": "{}"}))
    with pytest.raises(ValueError, match=r"unknown\.safetensors.* unexpected"):
        weights.load(write(small, tmp_path / "unknown.safetensors", {"arguments": '{"depth": 3}'}))
    save_file({"a": torch.ones(1)}, tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="does not say which method"):
        weights.load(tmp_path / "bare.safetensors")
    torch.save({"28.weight": torch.ones(1), "28.bias": torch.ones(1)}, tmp_path / "short.pth")
    with pytest.raises(ValueError, match="got 1 layers"):
        weights.load(tmp_path / "short.pth")
    with pytest.raises(ValueError, match=r"is a \.safetensors file"):
        weights.convert(tmp_path / "short.pth", "out.pth")


def test_a_file_with_code_is_refused(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "code.pth")
    expected = r"holds no weights that can be read; expected a \.safetensors file, or a state dict of torch\.save$"
    with pytest.raises(ValueError, match=expected):
        weights.load(tmp_path / "code.pth")


def test_settings_are_for_methods_without_weights():
    assert weights.load("gatys", steps=7).steps == 7
    with pytest.raises(ValueError, match="adain has weights, which determine its arguments; it takes no steps"):
        weights.load("adain", steps=7)
    with pytest.raises(ValueError, match=r"^unknown option setps; did you mean steps\?$"):
        weights.load("gatys", setps=7)


def test_the_upsampling_is_rebuilt_and_leaves_earlier_style_codes_valid(tmp_path):
    nearest, bilinear = (METHODS["adain"](layer="relu2_1", upsampling=kind) for kind in ("nearest", "bilinear"))
    bilinear.load_state_dict(nearest.state_dict())
    assert "upsampling" not in nearest.arguments, "arguments are part of the fingerprint in every style code"
    assert weights.fingerprint(nearest) != weights.fingerprint(bilinear)
    features = torch.rand(1, 128, 8, 8)
    loaded = weights.load(write(bilinear, tmp_path / "bilinear.safetensors"))
    torch.testing.assert_close(loaded.decoder[:-1](features), bilinear.decoder[:-1](features), atol=0.02, rtol=0)
    hidden = [method.decoder[:-1](features) for method in (nearest, bilinear)]  # the last layer starts near zero
    assert (hidden[0] - hidden[1]).abs().mean() > 0.01


class Sepia(Trainable):
    """A custom method, which is not in `METHODS`."""

    stride = 1
    receptive_radius = 0

    def __init__(self):
        super().__init__()
        self.arguments = {}
        self.color = torch.nn.Conv2d(3, 3, 1)

    def encode_style(self, style):
        return {"mean": style.mean((2, 3), keepdim=True)}

    def stylize(self, content, code, alpha=1.0, statistics_fn=compute_statistics):
        return self.color(content) + code["mean"]


def test_a_method_outside_the_table_has_weights_and_codes(tmp_path):
    method = Sepia()
    assert weights.metadata(method, steps="1") == {"method": "Sepia", "arguments": "{}", "steps": "1"}
    code = method.encode_style(torch.rand(1, 3, 8, 8))
    style_codes.save_code(code, method, tmp_path / "code.safetensors")
    assert torch.equal(style_codes.load_code(tmp_path / "code.safetensors", method)["mean"], code["mean"])
    with pytest.raises(ValueError, match="unknown method Sepia; choose from adain"):
        weights.load(write(method, tmp_path / "sepia.safetensors"))


def test_a_subclass_does_not_pass_for_its_parent():
    class Mine(METHODS["adain"]):
        pass

    assert weights.metadata(Mine(layer="relu1_1"))["method"] == "Mine"


def test_a_style_code_serves_every_precision(small, tmp_path):
    path = tmp_path / "full.safetensors"
    save_file(small.state_dict(), path, weights.metadata(small))  # float32, as checkpoints of runs hold
    full, *others = (preparation.prepare(path, "cpu", precision) for precision in ("fp32", "bf16", "fp16"))
    expected = weights.fingerprint(small)
    assert weights.fingerprint(full) == expected, "earlier style codes stay valid"
    style_codes.save_code(full.encode_style(torch.rand(1, 3, 32, 32)), full, tmp_path / "code.safetensors")
    for method in others:
        assert style_codes.load_code(tmp_path / "code.safetensors", method)


def test_the_fingerprint_follows_new_weights(small, tmp_path):
    method = weights.load(write(small, tmp_path / "small.safetensors"))
    before = weights.fingerprint(method)
    torch.manual_seed(1)
    other = METHODS["adain"](**small.arguments)
    weights.fill(method, other.state_dict(), "elsewhere")
    assert weights.fingerprint(method) == weights.fingerprint(other) != before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"adain": {"arguments": "{}"}, "state_dict": {}}, "got no method"),
        ({"adain": {"method": "adain"}, "state_dict": {}}, "got no arguments"),
        ({"adain": {"method": "adain", "arguments": "{}"}}, "got no weights"),
    ],
)
def test_an_incomplete_checkpoint_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=rf"in the checkpoint .*last\.ckpt, {message}"):
        weights.load(tmp_path / "last.ckpt")


def test_a_style_code_without_its_fingerprint_is_refused(small, tmp_path):
    save_file({"mean": torch.ones(1)}, tmp_path / "code.safetensors", {"style": "adain"})
    with pytest.raises(ValueError, match="holds no style code"):
        style_codes.load_code(tmp_path / "code.safetensors", small)


def test_weights_with_a_backbone_with_batch_norm_are_loaded(tmp_path):
    method = METHODS["adain"](backbone="vgg11_bn", layer="relu1_1", weights="random")
    path = tmp_path / "a.safetensors"
    state = {name: tensor.contiguous() for name, tensor in method.state_dict().items()}
    save_file(state, path, weights.metadata(method))
    loaded = weights.load(path)
    assert loaded.state_dict().keys() == state.keys()


@pytest.mark.parametrize("factor", [1, float("nan")])
def test_a_code_that_could_not_be_loaded_is_not_saved(factor, tmp_path):
    method = weights.load("adain-lite")
    code = method.encode_style(torch.rand(2 if factor == 1 else 1, 3, 32, 32))
    code = {name: tensor * factor for name, tensor in code.items()}
    with pytest.raises(ValueError, match=r"Expected one style with finite values for .*code\.safetensors, got other"):
        style_codes.save_code(code, method, tmp_path / "code.safetensors")
    assert not list(tmp_path.iterdir())
