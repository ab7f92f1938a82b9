import logging

import huggingface_hub
import huggingface_hub.constants as hub_constants
import pytest
import torch
import yaml
from safetensors.torch import load, save_file

import adain
from adain.methods import METHODS, weights
from adain.models import hub
from tests.conftest import ROOT, exit_code
from tests.model_hub import ModelHub


@pytest.fixture
def server(monkeypatch, tmp_path):
    with ModelHub() as server:
        monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub_constants, "ENDPOINT", server.url)
        monkeypatch.setattr(
            hub_constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(hub_constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "secret")
        yield server


def test_a_method_is_the_same_after_a_round_trip(server, make_picture, tmp_path):
    method = adain.load("adain-lite")
    assert adain.push_to_hub(method, "me/lite", license="cc-by-nc-4.0", private=True) == f"{server.url}/me/lite"
    assert server.private == {"me/lite"}
    assert len(server.messages) == 1, "weights and card in one commit"
    for loaded in (adain.load("me/lite"), adain.from_pretrained("me/lite", revision="v1")):
        assert type(loaded) is type(method)
        assert weights.fingerprint(loaded) == weights.fingerprint(method)
    with pytest.raises(FileNotFoundError):
        adain.from_pretrained("me/lite", revision="v2")  # which the server does not have
    photo, painting = make_picture("photo.png"), make_picture("painting.png", seed=1)
    flags = "--checkpoint", "me/lite", "--device", "cpu", "--output", tmp_path / "out.png"
    assert exit_code("stylize", photo, painting, *flags) == 0
    expected = adain.Stylizer(painting, "adain-lite", device="cpu")(photo)
    assert adain.to_image(adain.load_image(tmp_path / "out.png")).tobytes() == expected.tobytes()


def test_the_repository_has_small_weights_and_a_card_with_license_and_recipe(server):
    path = ROOT / "checkpoints" / "johnson.safetensors"
    adain.push_to_hub(path, "me/johnson", license="other")
    files = server.repos["me/johnson"]
    assert {*files} == {"model.safetensors", "README.md"}
    state, _ = weights.read(path)
    uploaded = load(files["model.safetensors"])
    assert all(torch.equal(uploaded[name], tensor.half()) for name, tensor in state.items())
    _, header, text = files["README.md"].decode().split("---\n", 2)
    assert yaml.safe_load(header)["license"] == "other"
    assert 'adain.stylize("photo.jpg", method="me/johnson")' in text
    assert "```yaml\n" in text
    assert "model:" in text


def test_what_cannot_be_shared(server, monkeypatch):
    method = adain.load("adain-lite")
    with pytest.raises(ValueError, match="Expected a license"):
        adain.push_to_hub(method, "me/lite", license=" ")
    with pytest.raises(ValueError, match="Expected a method with weights, got gatys"):
        adain.push_to_hub(adain.load("gatys"), "me/gatys", license="mit")

    class Changed(METHODS["adain-lite"]):
        pass

    with pytest.raises(ValueError, match=r"Expected one of adain, .*, got Changed, which adain.load cannot load"):
        adain.push_to_hub(Changed(), "me/changed", license="mit")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(OSError, match=r"Cannot upload to me/lite on the Hugging Face Hub .*401"):
        adain.push_to_hub(method, "me/lite", license="mit")
    assert not server.repos


def test_files_whose_weights_do_not_fit_their_method_are_not_shared(server, tmp_path):
    method = adain.load("adain-lite")
    metadata = weights.metadata(method)
    state = weights.half(method.state_dict())
    first = next(iter(state))
    wrong = {
        "unknown method magic; choose from adain": (state, {**metadata, "method": "magic"}),
        "does not fit AdaINLite": ({first: state[first]}, metadata),
        "Expected finite weights": ({**state, first: state[first] * float("nan")}, metadata),
    }
    for message, (tensors, described) in wrong.items():
        save_file(tensors, tmp_path / "wrong.safetensors", described)
        with pytest.raises(ValueError, match=message):
            adain.push_to_hub(tmp_path / "wrong.safetensors", "me/wrong", license="mit")
    assert not server.repos


def test_missing_repositories(server, monkeypatch, capsys):
    for name in ("me/nothing", "me/empty"):
        server.repos["me/empty"] = {}
        with pytest.raises(FileNotFoundError, match=f"on the Hugging Face Hub, got {name}"):
            adain.load(name)
    monkeypatch.setattr(hub_constants, "HF_HUB_OFFLINE", True)
    assert exit_code("encode-style", "--style", "a.png", "--output", "a.safetensors", "--checkpoint", "me/lite") == 2
    error = capsys.readouterr().err
    assert error.startswith("adain: error: Expected a file of weights, or a repository")
    assert error.count("\n") == 1


def test_only_our_line_about_a_missing_repository(monkeypatch, caplog):
    def fail(*_, **__):
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s")
        raise OSError("no network")

    logger = logging.getLogger("huggingface_hub")
    monkeypatch.setattr(logger, "propagate", True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    expected = r"got mine/weights \(no such file, and none found on the Hub: no network\)"
    with pytest.raises(FileNotFoundError, match=expected):
        weights.load("mine/weights")
    assert not caplog.records
    logger.warning("another one")
    assert caplog.records, "the level is as before"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("user/name", True),
        ("user/name-v1.5", True),
        ("name", False),
        ("./name", False),
        ("a/b/c", False),
        ("/user/name", False),
        ("weights/mine.safetensors", False),
        ("runs/last.ckpt", False),
        ("runs/LAST.CKPT", False),
        ("photos/a.jpg", False),
    ],
)
def test_names_of_repositories(name, expected):
    assert hub.is_repository(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("user/name", False),
        ("name-v1.5", False),
        ("./name", True),
        ("../name", True),
        ("/data/name", True),
        ("~/name", True),
        ("data\\name", True),
        ("user/photo.JPG", True),
        ("user/train.parquet", True),
        ("user/train-{000..146}.tar", True),
    ],
)
def test_names_that_are_not_looked_up(name, expected):
    assert hub.is_path(name) == expected
