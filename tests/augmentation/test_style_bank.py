import hashlib
import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import adain
from adain.augmentation import build_bank, load_bank, save_bank
from adain.augmentation.bank_building import as_bank
from adain.augmentation.style_bank import embedded_bank, flatten, unflatten
from adain.methods import METHODS, style_codes, weights
from tests.conftest import ROOT, exit_code, picture


@pytest.fixture
def styles(tmp_path):
    """A folder of 4 different images in subfolders, a copy of one of them, a broken image, and a text file."""
    for i in range(4):
        picture(tmp_path / "styles" / f"genre{i % 2}" / f"{i}.png", (40 + i, 36), i)
    shutil.copy(tmp_path / "styles" / "genre0" / "0.png", tmp_path / "styles" / "zz_copy.png")
    (tmp_path / "styles" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    (tmp_path / "styles" / "notes.txt").write_text("not an image")
    return tmp_path / "styles"


@pytest.fixture
def other_lite(lite, tmp_path):
    """adain-lite with other weights."""
    state = {name: (tensor + 0.1).contiguous() for name, tensor in lite.state_dict().items()}
    save_file(state, tmp_path / "other.safetensors", weights.metadata(lite))
    return adain.prepare(tmp_path / "other.safetensors", "cpu", "fp32")


def test_each_distinct_image_is_encoded_once_with_its_source(styles, lite):
    failures = []
    bank = build_bank(styles, lite, style_size=32, report=failures.append)
    assert sorted(source.file for source in bank.sources) == [
        "genre0/0.png", "genre0/2.png", "genre1/1.png", "genre1/3.png",
    ]  # fmt: skip
    for i, source in enumerate(bank.sources):
        assert source.sha256 == hashlib.sha256((styles / source.file).read_bytes()).hexdigest()
        expected = adain.encode_style(lite, styles / source.file, 32)["code"]
        torch.testing.assert_close(bank.code["code"][i : i + 1], expected.half())
    assert len(failures) == 1
    assert "broken.jpg is not a readable image" in failures[0]


def test_other_names_give_the_same_bank(styles, lite, tmp_path):
    for i in range(4):
        shutil.copy(styles / f"genre{i % 2}" / f"{i}.png", tmp_path / f"{9 - i}.png")
    renamed, bank = (build_bank(folder, lite, style_size=32) for folder in (tmp_path, styles))
    assert torch.equal(renamed.code["code"], bank.code["code"])


def test_a_limited_bank_keeps_the_distribution_of_all(styles, lite):
    whole, limited = (build_bank(styles, lite, style_size=32, limit=limit) for limit in (None, 2))
    assert len(limited) == 2
    assert torch.equal(limited.code["code"], whole.code["code"][:2])
    assert torch.equal(limited.gaussian.components, whole.gaussian.components)


def test_a_saved_bank_is_loaded_as_it_was(styles, lite, tmp_path):
    bank = build_bank(styles, lite, style_size=32)
    save_bank(bank, tmp_path / "bank.safetensors")
    loaded = load_bank(tmp_path / "bank.safetensors", lite)
    assert (loaded.method, loaded.weights, loaded.sources) == (bank.method, bank.weights, bank.sources)
    assert torch.equal(loaded.code["code"], bank.code["code"])
    for name in ("mean", "components", "low", "high"):
        torch.testing.assert_close(getattr(loaded.gaussian, name), getattr(bank.gaussian, name).half())


def test_codes_of_several_tensors_survive_flattening():
    code = {"std": torch.rand(5, 4, 1, 1), "kernel/0": torch.rand(5, 2, 3, 3)}
    vectors = flatten(code)
    assert vectors.shape == (5, 22)
    restored = unflatten(vectors, code)
    assert all(torch.equal(restored[name], part) for name, part in code.items())


def test_drawn_styles_belong_to_the_bank_and_new_ones_do_not(styles, lite):
    bank = build_bank(styles, lite, style_size=32)
    rows = bank.code["code"].float()
    drawn = bank.draw(40)["code"]
    indices = torch.cdist(drawn, rows).argmin(1)
    assert torch.equal(drawn, rows[indices])
    assert set(indices.tolist()) == {0, 1, 2, 3}
    assert torch.cdist(bank.draw_new(40)["code"], rows).min() > 1e-3


def test_a_bank_of_other_weights_is_refused(styles, lite, other_lite, tmp_path):
    bank = build_bank(styles, lite, style_size=32)
    save_bank(bank, tmp_path / "bank.safetensors")
    message = r"bank.safetensors was encoded by adain-lite with other weights .*; rebuild it with adain encode-style"
    with pytest.raises(ValueError, match=message):
        load_bank(tmp_path / "bank.safetensors", other_lite)
    with pytest.raises(ValueError, match="rebuild it with build_bank"):
        as_bank(bank, other_lite)
    with pytest.raises(ValueError, match=r"adain_lite_bank.safetensors was encoded .* make bank STYLES=FOLDER"):
        as_bank(None, other_lite)


def test_the_embedded_bank_fits_the_embedded_weights(lite):
    bank = as_bank(None, lite)
    assert len(bank) >= 1000
    assert len({source.sha256 for source in bank.sources}) == len(bank)
    assert all(part.isfinite().all() for part in bank.code.values())
    assert embedded_bank("adain-lite").stat().st_size < 2**20
    assert embedded_bank("adain-lite").with_suffix(".md").exists(), "there is a card next to the bank"


def test_the_makefile_rebuilds_the_embedded_bank():
    makefile = (ROOT / "Makefile").read_text()
    assert f"--output {embedded_bank('adain-lite').relative_to(ROOT)}" in makefile


def test_styles_of_every_kind(styles, lite, tmp_path):
    images = [styles / "genre0" / "0.png", Image.open(styles / "genre1" / "1.png"), torch.rand(3, 32, 32)]
    code = adain.encode_style(lite, images[0])
    style_codes.save_code(code, lite, tmp_path / "code.safetensors")
    bank = as_bank([*images, code, tmp_path / "code.safetensors"], lite)
    assert len(bank) == 5
    assert bank.sources[0].file == "0.png"
    assert bank.sources[0].sha256 == hashlib.sha256(images[0].read_bytes()).hexdigest()
    torch.testing.assert_close(bank.code["code"][3:], code["code"].half().expand(2, -1))
    assert len(as_bank(torch.rand(3, 3, 32, 32), lite)) == 3, "a batch is as many styles"
    batch = {name: part.expand(3, -1) for name, part in code.items()}
    assert len(as_bank(batch, lite)) == 3, "so is a code of several styles"
    assert len(as_bank(styles, lite)) == 4
    assert len(as_bank(str(images[0]), lite)) == 1


def test_wrong_styles(styles, lite, tmp_path):
    with pytest.raises(ValueError, match="at least one style, got none"):
        as_bank([], lite)
    with pytest.raises(ValueError, match=r"holds no bank of styles; write one with adain encode-style"):
        as_bank(weights.embedded("adain-lite"), lite)
    with pytest.raises(OSError, match="no such file"):
        as_bank(tmp_path / "missing", lite)
    with pytest.raises(ValueError, match=r"trained for any style, adain-lite, adain, or adaconv, got wct"):
        as_bank(styles, METHODS["wct"]())
    with pytest.raises(ValueError, match="adain, which has no embedded bank; give images"):
        as_bank(None, METHODS["adain"]())
    with pytest.raises(ValueError, match="limit must be at least 1 style, got 0"):
        build_bank(styles, lite, limit=0)
    with pytest.raises(OSError, match="Expected a folder of styles"):
        build_bank(tmp_path / "missing", lite)


def test_a_folder_without_a_readable_image(lite, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with pytest.raises(OSError, match=r"Expected images that can be read in .*, got 1 that cannot"):
        build_bank(tmp_path, lite, report=lambda reason: None)


def test_the_command_writes_a_bank_and_reports_what_it_left_out(styles, lite, tmp_path, capsys):
    output = tmp_path / "bank.safetensors"
    command = "encode-style", "--method", "adain-lite", "--output", output, "--style"
    assert exit_code(*command, styles, "--style-size", 32, "--limit", 3, "--quiet") == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("adain: error: ")
    assert "broken.jpg" in captured.err
    assert not captured.out
    bank = load_bank(output, lite)
    whole = build_bank(styles, lite, style_size=32, report=lambda reason: None)
    assert torch.equal(bank.code["code"], whole.code["code"][:3])
    (styles / "broken.jpg").unlink()
    assert exit_code(*command, styles, "--style-size", 32) == 0
    assert f"{output}: 4 styles" in capsys.readouterr().out


def test_the_command_refuses_what_does_not_fit_a_folder(styles, tmp_path, capsys):
    output = tmp_path / "bank.safetensors"
    image = styles / "genre0" / "0.png"
    command = "encode-style", "--method", "adain-lite"
    for wrong, message in [
        (["--style", styles, image, "--output", output], "Expected one folder of styles"),
        (["--style", styles, "--style-weight", 1, "--output", output], "Expected no --style-weight with a folder"),
        (["--style", styles, "--output", tmp_path / "bank.pt"], "Expected a .safetensors file for the bank"),
        (["--style", image, "--limit", 2, "--output", output], "Expected a folder of styles with --limit"),
    ]:
        assert exit_code(*command, *wrong) == 2
        assert message in capsys.readouterr().err
    assert not output.exists()


def test_a_bank_is_not_one_style(lite):
    with pytest.raises(ValueError, match=r"Expected one style code, got the bank of many styles .*adain.RandomStyle"):
        adain.encode_style(lite, embedded_bank("adain-lite"))
