import csv
import re

import pytest
import torch
from safetensors.torch import save_file
from torchvision import models

from adain.evaluation import grid, protocol, report
from adain.evaluation.grid import Variant
from adain.evaluation.inception import InceptionFeatures, frechet_distance, frechet_inception_distance
from adain.evaluation.protocol import Protocol, cfsd, evaluate_styleid
from tests.conftest import exit_code

TINY = Protocol(contents=2, styles=3, size=64)


@pytest.fixture
def small(make_picture, tmp_path):
    """Two contents and three styles, none of them square."""
    for i in range(2):
        make_picture(f"content/{i}.png", (80, 70 + i), i)
    for i in range(3):
        make_picture(f"style/{i}.png", (72, 90 + i), 9 + i)
    return tmp_path / "content", tmp_path / "style", tmp_path / "out"


def average_colors(images):
    """A substitute for Inception: 3 features."""
    return images.mean((2, 3))


def covariance(size, seed):
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T


def test_frechet_distance_of_equal_gaussians_is_zero():
    mean, matrix = torch.arange(5.0), covariance(5, 0)
    assert frechet_distance(mean, matrix, mean, matrix) == pytest.approx(0, abs=1e-6)


def test_frechet_distance_of_equal_covariances_is_that_of_the_means():
    mean, matrix = torch.zeros(4), covariance(4, 1)
    shift = torch.tensor([1.0, -2.0, 0.0, 2.0])
    assert frechet_distance(mean, matrix, mean + shift, matrix) == pytest.approx(9, abs=1e-6)


def test_frechet_distance_of_commuting_covariances():
    basis = torch.linalg.eigh(covariance(3, 2))[1]
    a, b = torch.tensor([1.0, 4.0, 0.0]).double(), torch.tensor([9.0, 1.0, 16.0]).double()
    expected = (a.sqrt() - b.sqrt()).square().sum().item()
    found = frechet_distance(torch.zeros(3), (basis * a) @ basis.T, torch.zeros(3), (basis * b) @ basis.T)
    assert found == pytest.approx(expected)


def test_frechet_distance_is_symmetric_where_covariances_do_not_commute():
    mean, a, b = torch.zeros(4), covariance(4, 3), covariance(4, 4)
    assert frechet_distance(mean, a, mean, b) == pytest.approx(frechet_distance(mean, b, mean, a))
    eigenvalues = torch.linalg.eigvals(a @ b).real.clamp(min=0)
    expected = (a.trace() + b.trace() - 2 * eigenvalues.sqrt().sum()).item()
    assert frechet_distance(mean, a, mean, b) == pytest.approx(expected)


def test_fid_works_with_fewer_samples_than_features():
    a = torch.randn(3, 8)
    assert frechet_inception_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_inception_distance(a, a + 2) == pytest.approx(32, rel=1e-5)
    with pytest.raises(ValueError, match="at least 2 images in each set for FID, got 1 and 3"):
        frechet_inception_distance(a[:1], a)


def test_cfsd_of_an_image_with_itself_is_zero():
    features = torch.rand(1, 8, 5, 6)
    assert cfsd(features, features) == 0


@pytest.mark.parametrize("scale", [1, 4])
def test_cfsd_by_its_definition(scale, monkeypatch):
    monkeypatch.setattr(protocol, "BLOCK_ROWS", 7)  # 30 rows are not a multiple
    content, stylized = scale * torch.rand(1, 8, 5, 6), scale * torch.rand(1, 8, 5, 6)
    rows = []
    for features in (content, stylized):
        matrix = features[0].double().reshape(8, 30).T / 8
        rows.append((matrix @ matrix.T).log_softmax(1))
    expected = (rows[0].exp() * (rows[0] - rows[1])).sum().item()
    assert cfsd(stylized, content) == pytest.approx(expected, rel=1e-4)
    assert cfsd(content, stylized) != pytest.approx(expected, rel=1e-4)


def test_cfsd_grows_with_the_change_of_structure():
    content, noise = torch.rand(1, 8, 6, 6), torch.rand(1, 8, 6, 6)
    near, far = (cfsd(content + share * noise, content) for share in (0.1, 0.5))
    assert 0 < near < far


def test_every_pair_is_evaluated_and_means_are_of_all(small):
    table = evaluate_styleid([Variant("adain-lite", "adain-lite")], *small, TINY, average_colors, "cpu")
    rows = list(csv.DictReader((small[2] / "figures.csv").read_text().splitlines()))
    assert [(row["content"], row["style"]) for row in rows] == [(c, s) for c in "01" for s in "012"]
    (means,) = table
    assert means["pairs"] == 6
    for name in ("LPIPS", "CFSD"):
        assert means[name] == pytest.approx(sum(float(row[name]) for row in rows) / 6) != 0
    assert means["ArtFID"] == (1 + means["LPIPS"]) * (1 + means["FID"])
    assert (small[2] / "table.md").read_text() == report.markdown(table)


def test_unchanged_styles_have_fid_zero_and_unchanged_contents_no_distance(small, tmp_path):
    contents, styles, output = small
    for name, source in (("as_content", contents), ("as_style", styles)):
        crops = protocol._crop_all(sorted(source.iterdir()), tmp_path / "crops" / name, TINY.size)
        for c in "01":
            for s in "012":
                target = tmp_path / name / f"{c}__{s}.png"
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(crops[int(c if name == "as_content" else s)].read_bytes())
    variants = [Variant(name, str(tmp_path / name)) for name in ("as_content", "as_style")]
    as_content, as_style = evaluate_styleid(variants, contents, styles, output, TINY, average_colors)
    assert as_content["LPIPS"] == as_content["CFSD"] == 0 < as_style["CFSD"]
    assert as_style["FID"] == pytest.approx(0, abs=1e-6)
    assert as_content["FID"] > 1e-4


def test_results_of_another_size_are_rejected(small, tmp_path, make_picture):
    for c in "01":
        for s in "012":
            make_picture(f"results/{c}__{s}.png", (64, 60))
    with pytest.raises(ValueError, match=r"Expected results of 64 x 64 px, got 64 x 60 for 0 in 0"):
        evaluate_styleid([Variant("results", str(tmp_path / "results"))], *small, TINY)


def test_an_interrupted_run_keeps_its_rows(small, monkeypatch):
    def stopping(*arguments):
        for number, result in enumerate(grid.stylize_variants(*arguments)):
            if number == 2:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(protocol, "stylize_variants", stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluate_styleid([Variant("adain-lite", "adain-lite")], *small, TINY, device="cpu")
    rows = list(csv.DictReader((small[2] / "figures.csv").read_text().splitlines()))
    assert [row["style"] for row in rows] == ["0", "1"]


def words(small, *more):
    content, style, output = small
    return "evaluate", "--protocol", "styleid", "--content", content, "--style", style, "--output", output, *more


def test_the_command_says_which_file_is_missing(small, capsys):
    flags = "--contents", 2, "--styles", 2, "--size", 64, "--method", "adain-lite"
    assert exit_code(*words(small, *flags)) == 0
    table, missing = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert "| method | pairs | LPIPS | CFSD | seconds |" in table
    assert "| adain-lite | 4 |" in table
    for part in ("--inception FILE", "art_inception.pth", "https://"):
        assert part in missing


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], r"Expected 20 contents in .*content, got 2; add images, or lower --contents"),
        (["--contents", 2], r"Expected 40 styles in .*style, got 3; add images, or lower --styles"),
        (["--contents", 0], r"Expected --contents of at least 1, got 0"),
        (["--size", 63], r"Expected --size of at least 64, got 63"),
        (["--perceptual"], r"without --perceptual"),
        (["--inception", "missing.pth"], r"missing.pth: there is no such file"),
    ],
)
def test_wrong_input_of_the_command(small, capsys, flags, message):
    assert exit_code(*words(small, *flags)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error)
    assert not small[2].exists()


def test_flags_of_the_protocol_need_it(small, capsys):
    content, style, output = small
    flags = "--content", content, "--style", style, "--output", output, "--styles", 3, "--inception", "x"
    assert exit_code("evaluate", *flags) == 2
    assert "Expected --protocol styleid with --styles, --inception" in capsys.readouterr().err


@pytest.fixture(scope="module")
def network():
    """The Inception network of torchvision, with random weights."""
    return models.inception_v3(weights=None, aux_logits=False, init_weights=False).eval()


def test_inception_reads_torchvision_weights(network, tmp_path):
    torch.save(network.state_dict(), tmp_path / "inception.pth")
    found = InceptionFeatures(tmp_path / "inception.pth")
    images = torch.rand(1, 3, 80, 90)
    resized = torch.nn.functional.interpolate(images, (299, 299), mode="bilinear", antialias=True)
    with torch.inference_mode():
        features = found(images)
        assert features.shape == (1, 2048)
        torch.testing.assert_close(network.fc(features), network(resized * 2 - 1))


def test_inception_reads_artfid_weights_which_take_images_at_their_size(network, tmp_path):
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("fc.")}
    state |= {"fc1.weight": torch.zeros(5, 2048), "fc2.weight": torch.zeros(7, 2048)}
    save_file(state, tmp_path / "art.safetensors")
    found = InceptionFeatures(tmp_path / "art.safetensors")
    images = torch.rand(1, 3, 80, 90)
    with torch.inference_mode():
        features = found(images)
        network.fc = torch.nn.Identity()
        torch.testing.assert_close(features, network(images))
    with pytest.raises(ValueError, match="at least 75 px a side for Inception, got 90 x 70"):
        found(images[:, :, :70])


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"fc.weight": torch.zeros(1008, 2)}, "the TensorFlow FID network"),
        ({"conv.weight": torch.zeros(1)}, "Expected weights of inception_v3 in .*art_inception.pth"),
        ({"state_dict": {}}, "Expected a state dict of tensors"),
    ],
)
def test_other_weights_are_rejected(state, message, tmp_path):
    torch.save(state, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=message):
        InceptionFeatures(tmp_path / "other.pth")
