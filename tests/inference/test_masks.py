import numpy as np
import pytest
import torch
from PIL import Image

from adain.imaging.options import DEFAULT_READ_OPTIONS
from adain.inference.masks import load_mask, read_mask

CONTENT = torch.rand(1, 3, 4, 6)


def loaded(mask):
    return load_mask(mask, CONTENT, 0, DEFAULT_READ_OPTIONS)


def test_masks_of_all_types_are_alike():
    values = torch.zeros(4, 6, dtype=torch.uint8)
    values[:2, :3] = 255
    values[2:, 3:] = 51
    tensors = [values, values[None], values[None, None], values[None].expand(3, -1, -1), values / 255]
    for mask in (*tensors, values.numpy(), values.numpy() / 255, Image.fromarray(values.numpy())):
        assert torch.equal(loaded(mask)[0, 0], values)
    assert torch.equal(loaded(values > 100)[0, 0] > 0, values > 100)


@pytest.mark.parametrize("shape", [(2, 1, 4, 6), (2, 4, 6), (6,), (1, 0, 6)])
def test_masks_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"Expected a mask \(h, w\) or \(1, 1 or 3, h, w\), got"):
        loaded(torch.ones(shape))


@pytest.mark.parametrize("mask", [torch.full((4, 6), 255.0), torch.full((4, 6), float("nan")), torch.full((4, 6), 255)])
def test_masks_outside_of_zero_to_one_are_refused(mask):
    with pytest.raises(ValueError, match=r"in \[0, 1\], got values from .*; scale the mask to \[0, 1\], or give uint8"):
        loaded(mask)
    if mask.is_floating_point():
        with pytest.raises(ValueError, match=r"in \[0, 1\], got"):
            loaded(mask.numpy())


@pytest.mark.parametrize("kind", ["file", "image", "array"])
def test_what_is_transparent_counts_as_black(kind, tmp_path):
    values = np.zeros((4, 6, 4), np.uint8)  # white paint on an empty layer
    values[:2, :3] = (255, 255, 255, 255)
    values[2:, 3:] = (255, 255, 255, 51)
    mask = Image.fromarray(values)
    mask.save(tmp_path / "mask.png")
    found = loaded({"file": tmp_path / "mask.png", "image": mask, "array": values}[kind])
    assert np.array_equal(found[0, 0], values[..., 3])
    assert np.array_equal(np.asarray(read_mask(mask, DEFAULT_READ_OPTIONS))[..., 0], values[..., 3]), "as for videos"
