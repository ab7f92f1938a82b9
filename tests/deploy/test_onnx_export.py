import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

import adain
from adain.deploy.onnx_export import REFUSED, export
from adain.functional import adaptive_convolution
from adain.methods import METHODS, style_codes, weights
from tests.conftest import exit_code

ABLE = [name for name in METHODS if name not in REFUSED]
SIZES = {(1, 64, 64): (64, 64), (1, 96, 131): (40, 71), (2, 100, 78): (90, 33), (1, 17, 16): (16, 130)}
"""The size of the style by the batch and size of the content."""


def smooth_image(batch, height, width):
    coarse = torch.rand(batch, 3, 7, 9, generator=torch.Generator().manual_seed(height + width))
    return F.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A function that returns a session for export options; each file is written once."""
    folder, known = tmp_path_factory.mktemp("onnx"), {}

    def session(method, style="picture", precision="fp32", calibration=None):
        key = method, style, precision
        if key not in known:
            path = folder / f"{'-'.join(key)}.onnx"
            export(path, method, style, precision, calibration)
            assert [file.name for file in folder.iterdir() if file.stem not in map("-".join, known)] == [path.name]
            known[key] = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return known[key]

    return session


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A file with the weights of a small adain-lite, which is exported quickly."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    method = METHODS["adain-lite"]([8, 8, 12], 1, [8, 8], 16)
    torch.nn.init.normal_(method.out.weight, std=0.2)
    save_file(method.state_dict(), path, weights.metadata(method))
    return path


@pytest.fixture(scope="module")
def tiny_session(tiny, tmp_path_factory):
    """A session for the small adain-lite that takes the picture of a style."""
    path = tmp_path_factory.mktemp("tiny") / "picture.onnx"
    export(path, tiny)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def tiny_graph(tiny, tmp_path_factory):
    """The file of the small adain-lite that takes a style code and blends features."""
    path = tmp_path_factory.mktemp("tiny") / "code.onnx"
    export(path, tiny, "code", alpha_blend="features")
    return path


def run(session, content, style=None, alpha=1.0):
    given = style if isinstance(style, dict) else {"style": style}
    feed = {"content": content, **given, "alpha": torch.tensor(alpha).reshape(-1)}
    named = {part.name: feed[part.name].numpy() for part in session.get_inputs()}
    return torch.from_numpy(session.run(None, named)[0])


def test_the_graph_gives_the_result_of_a_small_method_at_any_size(tiny, tiny_session):
    check_sizes(tiny_session, adain.prepare(tiny, "cpu", "fp32"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ABLE)
def test_the_graph_gives_the_result_of_the_method_at_any_size(exported, name):
    check_sizes(exported(name), adain.prepare(name, "cpu", "fp32"))


def check_sizes(session, ready):
    assert (len(session.get_inputs()) == 3) == ready.takes_style
    for content, style in ((smooth_image(*a), smooth_image(1, *b)) for a, b in SIZES.items()):
        for alpha in (0.0, 0.5, 1.0) if ready.takes_style else (1.0,):
            settings = {"style": style, "alpha": alpha} if ready.takes_style else {}
            wanted = adain.stylize(content, method=ready, **settings)
            found = run(session, content, style, alpha)
            assert found.shape == content.shape
            torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)


def test_alpha_zero_is_the_photo_to_the_last_bit(tiny, tiny_session):
    content, style = smooth_image(3, 40, 52), smooth_image(1, 33, 64)
    found = run(tiny_session, content, style, [0.0, 0.6, 0.0])
    assert torch.equal(found[::2], content[::2])
    wanted = adain.stylize(content[1:2], style, tiny, precision="fp32", alpha=0.6)
    torch.testing.assert_close(found[1:2], wanted, atol=1e-3, rtol=0)


def test_nothing_is_decoded_twice_at_full_strength(tiny_session, tmp_path):
    options = onnxruntime.SessionOptions()
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(tiny_session._model_path, options, providers=["CPUExecutionProvider"])
    for alpha in (1.0, 0.5):
        run(session, smooth_image(2, 24, 32), smooth_image(1, 24, 24), alpha)
    events = json.loads(Path(session.end_profiling()).read_text())
    runs = [event["args"] for event in events if "Conv" in event.get("args", {}).get("op_name", "")]
    batches = [next(iter(run["output_type_shape"][0].values()))[0] for run in runs if "output_type_shape" in run]
    assert set(batches) == {1, 2, 4}, "the style, both contents, and both of them twice"
    assert 4 not in batches[: len(batches) // 2]


@pytest.mark.slow
def test_the_blend_of_the_paper_is_an_option(tiny, tiny_graph):
    ready, content, style = adain.prepare(tiny, "cpu", "fp32"), smooth_image(1, 50, 70), smooth_image(1, 60, 41)
    session = onnxruntime.InferenceSession(tiny_graph, providers=["CPUExecutionProvider"])
    code = adain.encode_style(ready, style)
    assert session.get_modelmeta().custom_metadata_map["alpha_blend"] == "features"
    for alpha in (0.0, 0.4):
        wanted = adain.stylize(content, style, ready, alpha=alpha, alpha_blend="features")
        torch.testing.assert_close(run(session, content, code, alpha), wanted, atol=1e-3, rtol=0)
        assert (wanted - adain.stylize(content, style, ready, alpha=alpha)).abs().mean() > 0.01


@pytest.mark.slow
def test_down_to_a_single_pixel(exported):
    content, style = torch.rand(1, 3, 1, 1), torch.rand(1, 3, 1, 40)
    wanted = adain.stylize(content, style, "adain-lite", precision="fp32")
    torch.testing.assert_close(run(exported("adain-lite"), content, style), wanted, atol=1e-3, rtol=0)


def test_a_style_and_a_strength_for_each_of_a_batch(tiny_session):
    session, content, styles = tiny_session, smooth_image(2, 40, 52), smooth_image(2, 33, 64)
    together = run(session, content, styles, [0.3, 1.0])
    for i, alpha in enumerate((0.3, 1.0)):
        alone = run(session, content[i : i + 1], styles[i : i + 1], alpha)
        torch.testing.assert_close(together[i : i + 1], alone, atol=1e-4, rtol=0)
    assert (together[0] - run(session, content[:1], styles[:1], 1.0)[0]).abs().max() > 0.01


@pytest.mark.slow
def test_a_saved_style_code_gives_the_result_of_its_image(tiny, tiny_graph, tmp_path):
    ready, style, content = adain.prepare(tiny, "cpu", "fp32"), smooth_image(1, 60, 41), smooth_image(2, 50, 70)
    style_codes.save_code(adain.encode_style(ready, style), ready, tmp_path / "style.safetensors")
    session = onnxruntime.InferenceSession(tiny_graph, providers=["CPUExecutionProvider"])
    assert [part.name for part in session.get_inputs()] == ["content", "code", "alpha"]
    found = run(session, content, load_file(tmp_path / "style.safetensors"), 0.6)
    wanted = adain.stylize(content, style, ready, alpha=0.6, alpha_blend="features")
    torch.testing.assert_close(found, wanted, atol=1e-3, rtol=0)


def float_kernels(graph):
    """The shapes of the kernels that are stored in float32."""
    kernels = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    return {kernels[node.input[1]] for node in graph.node if node.op_type == "Conv" and node.input[1] in kernels}


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "share", "limit"), [("fp16", 0.55, 1 / 255), ("int8", 0.35, 8 / 255)])
def test_smaller_files_give_nearly_the_same_result(exported, examples, precision, share, limit, tmp_path):
    folders = None
    if precision == "int8":
        folders = tmp_path / "content", tmp_path / "style"
        for folder, names in zip(folders, (("chelsea.png", "rocket.jpg"), ("wave.jpg",)), strict=True):
            folder.mkdir()
            for name in names:
                (folder / name).symlink_to(examples / folder.name / name)
    full, small = exported("adain-lite"), exported("adain-lite", "picture", precision, folders)
    sizes = [len(onnx.load(session._model_path).SerializeToString()) for session in (full, small)]
    assert sizes[1] < share * sizes[0]
    content = adain.load_image(examples / "content" / "chelsea.png", 128)
    style = adain.load_image(examples / "style" / "wave.jpg", 100)
    results = [run(session, content, style) for session in (full, small)]
    assert 0 < (results[0] - results[1]).abs().mean() < limit
    assert torch.equal(run(small, content, style, 0.0), content), "both passes are rounded alike"
    if precision == "int8":
        in_float = float_kernels(onnx.load(small._model_path).graph)
        assert {(32, 32, 1, 1), (16, 16, 1, 1)} <= in_float, "skip connections"
        assert {(32, 1, 3, 3), (16, 1, 3, 3)} <= in_float, "blurs"
        assert (3, 16, 3, 3) in in_float, "the image"
        assert (64, 64, 3, 3) not in in_float


@pytest.mark.slow
def test_the_metadata_describe_the_file(exported):
    session = exported("adain-lite")
    about = session.get_modelmeta().custom_metadata_map
    assert about["method"] == "adain-lite"
    assert about["alpha_blend"] == "residual"
    assert about["adain"] == adain.__version__
    assert "may be used for research and private work" in about["license"]
    assert "lr:" in about["recipe"]
    assert about["weights"] == weights.fingerprint(weights.load("adain-lite"))
    shapes = {part.name: part.shape for part in (*session.get_inputs(), *session.get_outputs())}
    assert shapes["content"] == shapes["stylized"] == ["batch", 3, "height", "width"]
    assert shapes["style"] == ["style_batch", 3, "style_height", "style_width"]
    data = onnx.load(session._model_path).SerializeToString()
    assert b".py" not in data, "no trace of the machine that wrote it"


@pytest.mark.parametrize("name", REFUSED)
def test_methods_that_cannot_be_exported_are_refused_with_alternatives(name, tmp_path):
    with pytest.raises(
        ValueError, match=f"{name} cannot be exported: .*; choose from adain, adain-lite, adaconv, johnson"
    ):
        export(tmp_path / "a.onnx", name)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"--output": "a.pt"}, "the output file name must end in .onnx, got a.pt"),
        ({"--precision": "int8"}, "needs 2 calibration folders (contents and styles), got 0"),
        ({"--precision": "int4"}, "int4"),
        ({"--calibration": "folder"}, "precision fp32 takes no calibration folders, got 1"),
        ({"--format": "tflite"}, "tflite"),
        ({"--method": "johnson", "--style": "code"}, "takes no style code"),
        ({"--method": "johnson", "--alpha-blend": "features"}, "leave out --alpha-blend"),
        ({"--alpha-blend": "linear"}, "linear"),
        ({"--checkpoint": "missing.safetensors"}, "neither a file of weights nor a method"),
    ],
    ids=lambda value: "".join(value) if isinstance(value, dict) else "",
)
def test_wrong_input_is_reported_in_one_line(tmp_path, monkeypatch, capsys, flags, message):
    monkeypatch.chdir(tmp_path)
    words = [word for pair in {"--output": "a.onnx", **flags}.items() for word in pair]
    assert exit_code("export", *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.delitem(sys.modules, "adain.deploy.onnx_export")
    assert exit_code("export", "--output", tmp_path / "a.onnx") == 2
    assert (
        capsys.readouterr().err
        == "adain: error: exporting needs onnxscript: pip install '.[export]' in the repository\n"
    )


def test_a_graph_with_another_result_is_not_written(tiny, tiny_session, tmp_path, monkeypatch):
    monkeypatch.setattr("adain.deploy.onnx_export._trace", lambda *_: onnx.load(tiny_session._model_path))
    monkeypatch.setattr("adain.deploy.onnx_export._compare_with_pytorch", lambda *_: (np.nan, np.nan))
    with pytest.raises(ValueError, match="nothing is written"):
        export(tmp_path / "a.onnx", tiny)
    assert not list(tmp_path.iterdir())


def test_a_network_that_cannot_be_exported_is_reported_in_one_line(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("adain.deploy.onnx_graph._expand_to_batch", lambda x, batch: x if x.sum() > 0 else 0 * x)
    with pytest.raises(ValueError, match=r"torch.onnx cannot export AdaINLite with these weights \(.*data-dependent"):
        export(tmp_path / "a.onnx", tiny)


@pytest.mark.parametrize("shape", [(3, 7), (1, 2), (9, 4), (64, 5)])
def test_pooling_by_products(shape):
    x = torch.rand(2, 3, *shape)
    torch.testing.assert_close(adaptive_convolution.pool(x, 4), F.adaptive_avg_pool2d(x, 4))


def test_the_two_parts_give_what_the_whole_gives_and_only_the_content_network_runs_per_content(
    tiny, tiny_session, tmp_path
):
    sessions = []
    for part in ("style-encoder", "stylizer"):
        export(tmp_path / f"{part}.onnx", tiny, part=part)
        sessions.append(onnxruntime.InferenceSession(tmp_path / f"{part}.onnx", providers=["CPUExecutionProvider"]))
    encoder, stylizer = sessions
    assert [value.name for value in stylizer.get_inputs()] == ["content", "code"]
    for (batch, *size), style_size in SIZES.items():
        content, style = smooth_image(batch, *size), smooth_image(1, *style_size)
        (code,) = encoder.run(["code"], {"style": style.numpy()})
        (stylized,) = stylizer.run(["stylized"], {"content": content.numpy(), "code": code})
        torch.testing.assert_close(torch.from_numpy(stylized), run(tiny_session, content, style), atol=1e-5, rtol=0)
    convolutions = [
        sum(node.op_type in ("Conv", "ConvTranspose") for node in onnx.load(tmp_path / f"{part}.onnx").graph.node)
        for part in ("style-encoder", "stylizer")
    ]
    assert convolutions == [2, 3 + 2 + 2 + 1], "no part contains the other"


def test_options_of_the_whole_are_refused_for_a_part(tiny, tmp_path):
    with pytest.raises(ValueError, match="leave them out for part stylizer"):
        export(tmp_path / "part.onnx", tiny, "code", part="stylizer")
    with pytest.raises(ValueError, match="Johnson has no style encoder"):
        export(tmp_path / "part.onnx", "johnson", part="style-encoder")


def test_weights_of_the_hub_are_exported(tmp_path, monkeypatch):
    monkeypatch.setattr(weights.hub, "download", lambda name: weights.embedded("adain-lite"))
    path = tmp_path / "encoder.onnx"
    export(path, "user/name", part="style-encoder")
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert entries["method"] == "adain-lite"
    assert "license" not in entries, "only the cards of embedded weights are known"
