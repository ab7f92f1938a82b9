"""Wavelet pooling and the network with skip connections."""

import sys

import pytest
import torch

from adain.imaging import writer
from benchmarks import wavelets


def test_merging_inverts_splitting():
    features = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    low, high = wavelets.split_bands(features)
    torch.testing.assert_close(wavelets.merge_bands(low, high), features)
    torch.testing.assert_close(low, torch.nn.functional.avg_pool2d(features, 2))


def test_each_high_band_sees_one_direction():
    x, y = torch.meshgrid(torch.tensor([1.0, -1, 1, -1]), torch.tensor([1.0, -1, 1, -1]), indexing="xy")
    for direction, pattern in enumerate([x, y, x * y]):
        low, high = wavelets.split_bands(pattern[None, None])
        expected = torch.zeros(3, 1, 1, 2, 2)
        expected[direction] = 1
        torch.testing.assert_close(high, expected)
        torch.testing.assert_close(low, torch.zeros(1, 1, 2, 2))


def test_a_photo_in_its_own_style_keeps_its_features():
    """Whitening and coloring with the own covariance changes nothing, as long as no direction is dropped."""
    network = wavelets.WaveletNetwork()
    image = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    result = network.stylize(image, image)
    expected = network.decode(*network.encode(image))
    assert (result - expected).norm() < 0.02 * expected.norm()


@pytest.mark.filterwarnings("ignore:Found .* in eval mode", "ignore:.*isinstance.treespec")
def test_training_changes_every_layer_and_writes_weights_that_load(tmp_path, monkeypatch, capsys):
    for i in range(9):  # one to train on, and eight that are held out
        writer.save(torch.rand(1, 3, 32, 32), tmp_path / f"{i}.png")
    weights = tmp_path / "weights.safetensors"
    command = ["wavelets", str(tmp_path), str(weights), "--steps", "2", "--crop", "32", "--batch-size", "1"]
    monkeypatch.setattr(sys, "argv", command)
    wavelets.main()
    assert "Squared error of held-out images over their variance: " in capsys.readouterr().out
    torch.manual_seed(0)
    untrained, trained = wavelets.WaveletNetwork().decoder, wavelets.load(str(weights)).decoder
    for name, value in untrained.state_dict().items():
        assert not torch.equal(value, trained.state_dict()[name]), name


@pytest.mark.parametrize(("shape", "expected"), [((16, 24), (16, 24)), ((23, 17), (16, 16))])
def test_images_are_cropped_to_what_pooling_splits(shape, expected):
    assert wavelets.crop_to_multiple(torch.zeros(1, 3, *shape)).shape[2:] == expected
