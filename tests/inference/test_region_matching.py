"""Regions of a content, each in the style of the most similar region of the style."""

import pytest
import torch

import adain
from adain.functional import statistics
from adain.functional.clustering import spherical_kmeans
from adain.inference import region_matching
from adain.inference.region_matching import match_regions, statistics_within
from adain.video import runner
from tests.conftest import exit_code


def smooth_and_noisy(height, width, smooth_on_top=True):
    """An image (1, 3, H, W): one half a gradient, the other half noise."""
    torch.manual_seed(0)
    gradient = torch.linspace(0.4, 0.6, width).expand(1, 3, height // 2, width)
    noise = torch.rand(1, 3, height // 2, width)
    return torch.cat([gradient, noise] if smooth_on_top else [noise, gradient], 2)


def test_kmeans_finds_directions_whatever_the_lengths():
    torch.manual_seed(1)
    directions = torch.eye(8)[:3]
    vectors = (directions.repeat_interleave(50, 0) + 0.05 * torch.randn(150, 8)) * (0.1 + torch.rand(150, 1))
    labels, centers = spherical_kmeans(vectors, 3)
    groups = labels.view(3, 50)
    assert (groups == groups[:, :1]).all()
    assert groups[:, 0].unique().numel() == 3
    torch.testing.assert_close(centers[groups[:, 0]], directions, atol=0.05, rtol=0)
    assert torch.equal(spherical_kmeans(vectors, 3)[0], labels), "no draws"


def test_kmeans_returns_fewer_clusters_for_fewer_directions():
    vectors = torch.tensor([[1.0, 0], [2, 0], [0, 1], [0, 3]])
    labels, centers = spherical_kmeans(vectors, 5)
    assert len(centers) == 2
    assert (labels[0] == labels[1], labels[2] == labels[3], labels[0] == labels[2]) == (True, True, False)
    assert len(spherical_kmeans(torch.ones(4, 3), 2)[1]) == 1


def test_kmeans_keeps_a_cluster_of_a_single_vector():
    vectors = torch.tensor([[1.0, 0], [1, 0.1], [1, 0.2], [0, 1]])
    labels, centers = spherical_kmeans(vectors, 2)
    assert labels.tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(centers.norm(dim=1), torch.ones(2))


def test_statistics_within_a_mask_are_those_of_its_pixels():
    features, mask = torch.rand(1, 5, 8, 12), torch.zeros(1, 1, 4, 6, dtype=torch.bool)
    mask[..., :3] = True
    compute = statistics_within(mask)
    for computed, expected in zip(
        compute(statistics.mean_std, features), statistics.mean_std(features[..., :6]), strict=True
    ):
        torch.testing.assert_close(computed, expected)


def test_regions_are_matched_by_what_they_show():
    content, style = smooth_and_noisy(128, 96), smooth_and_noisy(96, 128, smooth_on_top=False)
    matches = match_regions(content, style, 2)
    assert len(matches) == 2
    total = sum(match.content_mask.int() for match in matches)
    assert total.eq(255).all()
    assert total.shape == (1, 1, 128, 96)
    for match in matches:
        rows = match.content_mask.float().mean(3)[0, 0]
        style_rows = match.style_mask.float().mean(3)[0, 0]
        half = len(style_rows) // 2
        is_on_top = rows[:50].mean() > rows[-50:].mean()
        assert abs(rows[:50].mean() - rows[-50:].mean()) > 200
        assert (style_rows[half:].mean() > style_rows[:half].mean()) == is_on_top, "the style is upside down"


def test_long_images_are_analyzed_at_a_limited_size(monkeypatch):
    shapes = []

    class Spy(torch.nn.Module):
        def forward(self, image):
            shapes.append(tuple(image.shape))
            return {region_matching.LAYER: torch.rand(1, 4, *(side // 8 for side in image.shape[2:]))}

    monkeypatch.setattr(region_matching, "_backbone", Spy)
    match_regions(torch.rand(1, 3, 8, 400), torch.rand(1, 3, 100, 100), 2)
    assert shapes == [(1, 3, 31, 1536), (1, 3, 384, 384)]


@pytest.mark.parametrize("name", ["adain", "adain-lite"])
def test_one_region_is_the_whole_image(name):
    ready, content, style = adain.prepare(name, "cpu", "fp32"), torch.rand(1, 3, 40, 48), torch.rand(1, 3, 32, 32)
    expected = adain.stylize(content, style, ready, alpha=0.7)
    torch.testing.assert_close(adain.stylize(content, style, ready, alpha=0.7, regions=1), expected, atol=1e-4, rtol=0)


def test_each_region_takes_the_colors_of_its_match():
    content, style = smooth_and_noisy(64, 64), smooth_and_noisy(64, 64, smooth_on_top=False)
    style[:, 0, :32] *= 0.2  # the noise is cyan, the gradient is gray
    ready = adain.prepare("adain-lite", "cpu", "fp32")
    warmth = {}
    for regions in (1, 2):
        red, green, _ = adain.stylize(content, style, ready, regions=regions)[0]
        warmth[regions] = (red - green)[:24].mean() - (red - green)[40:].mean()
    assert warmth[2] > warmth[1] + 0.05


@pytest.mark.parametrize(
    ("styles", "method", "changes", "message"),
    [
        (1, "wct", {}, "regions are for adain and adain-lite, got wct"),
        (2, "adain-lite", {}, "Expected one style image with regions"),
        (1, "adain-lite", {"alpha": [0.5, 1]}, "Expected one content and one alpha"),
        (1, "adain-lite", {"mask": torch.ones(1, 8, 8)}, "Expected masks or a number of regions, got both"),
        (1, "adain-lite", {"regions": 0}, "regions must be between 1 and 16, got 0"),
        (1, "adain-lite", {"alpha": []}, "Expected one alpha for all styles or one for each, got none"),
        (1, "johnson", {}, "one built-in style"),
    ],
)
def test_what_does_not_go_with_regions(styles, method, changes, message):
    content, style = torch.rand(1, 3, 32, 32), [torch.rand(1, 3, 32, 32)] * styles
    with pytest.raises(ValueError, match=message):
        adain.stylize(content, style, method, device="cpu", **{"regions": 2, **changes})


def test_a_batch_of_styles_has_no_regions():
    content, styles = torch.rand(1, 3, 32, 32), torch.rand(2, 3, 32, 32)
    with pytest.raises(ValueError, match="Expected one style image with regions, got a batch of 2"):
        adain.stylize(content, styles, "adain-lite", device="cpu", regions=2)


def test_a_code_or_a_video_has_no_regions():
    ready, image = adain.prepare("adain-lite", "cpu", "fp32"), torch.rand(1, 3, 32, 32)
    with pytest.raises(ValueError, match="or a style code"):
        adain.stylize(image, adain.encode_style(ready, image), ready, regions=2)
    with pytest.raises(ValueError, match="no regions for a video"):
        runner.stylize_frames([image], image, ready, regions=2)


def test_on_the_command_line(make_picture, tmp_path, capsys):
    content, style = make_picture("c.png", (48, 40)), make_picture("s.png", (48, 40), seed=1)
    flags = ["--style", style, "--method", "adain-lite", "--regions", "2", "--quiet"]
    assert exit_code("stylize", "--content", content, *flags, "--output", tmp_path / "out.png") == 0
    assert (tmp_path / "out.png").exists()
    assert exit_code("stylize", "--content", content.parent, *flags, "--output", tmp_path / "folder") == 2
    assert "--regions cannot be used with a folder of contents" in capsys.readouterr().err
