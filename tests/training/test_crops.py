import itertools

import pytest
import torch

from adain.imaging import photo
from adain.training.crops import Crop, IndexedCrops, permutation, sample_rng


class Readable:
    """A transform that returns the image itself, and raises OSError for the images in `broken`."""

    def __init__(self, *broken):
        self.broken = broken

    def __call__(self, image, rng):
        if image in self.broken:
            raise OSError(f"{image} is broken")
        return image if rng is None else (image, rng.random())


def test_the_next_image_of_the_order_stands_in_for_an_unreadable_one():
    source = IndexedCrops(list("abcd"), Readable("b", "c"))
    assert [source[i] for i in range(6)] == [("a", 0), ("d", 2), ("d", 1), ("d", 0), ("a", 0), ("d", 2)]
    assert IndexedCrops(list("ab"), Readable("b"))[1] == ("a", 1), "it starts over at the end"


def test_crops_are_drawn_anew_for_each_sample():
    source = IndexedCrops(list("abcd"), Readable(), (3, 1))
    samples = [source[i][0] for i in range(8)]
    assert len({draw for _, draw in samples}) == 8
    assert samples == [IndexedCrops(list("abcd"), Readable(), (3, 1))[i][0] for i in range(8)]
    draws = {sample_rng(key, i).random() for key in ((3, 0), (4, 1)) for i in range(8)}
    assert not draws & {draw for _, draw in samples}, "other sources and seeds draw other numbers"


@pytest.mark.parametrize("rank", [0, 1])
def test_indexed_crops_as_a_stream(rank):
    source = IndexedCrops(list("abcde"), Readable("b"))
    samples = list(itertools.islice(source.samples(rank, 2, None, None), 5))
    assert samples == [(*source[2 * i + rank], {"index": i + 1}) for i in range(5)]
    resumed = itertools.islice(source.samples(rank, 2, None, samples[1].position), 3)
    assert list(resumed) == samples[2:]


def test_the_center_crop_and_a_random_one():
    pixels = torch.arange(80, dtype=torch.uint8).view(8, 10).expand(3, 8, 10)
    image = photo.to_image(pixels / 255)
    crop = Crop((8, 8), 4, flip=True)
    assert torch.equal(crop(image, None), pixels[:, 2:6, 3:7])

    class Corner:
        """Draws the largest integers, and a given float."""

        def __init__(self, value):
            self.value = value

        def integers(self, low, high=None, endpoint=False):
            assert endpoint, "both ends are included"
            return low if high is None else high

        def random(self):
            return self.value

    corner = pixels[:, 4:, 6:]
    assert torch.equal(crop(image, Corner(0.5)), corner)
    assert torch.equal(crop(image, Corner(0.49)), corner.flip(2))


def test_a_cell_holds_bytes_or_a_path(make_picture):
    path, crop = make_picture(), Crop((8, 8), 8)
    expected = crop(path, None)
    for cell in ({"bytes": path.read_bytes(), "path": "elsewhere"}, {"bytes": None, "path": str(path)}):
        assert torch.equal(crop(cell, None), expected)
    for cell in (None, {"bytes": None, "path": None}):
        with pytest.raises(OSError, match="got an empty cell"):
            crop(cell, None)


def test_a_run_can_be_resumed_in_another_version():
    """What is drawn for a seed and an index must never change."""
    assert sample_rng((3, 1), 7).integers(10**6, size=3).tolist() == [130956, 711026, 586763]
    assert permutation((3, 1), 0, 6).tolist() == [1, 3, 5, 2, 4, 0]
    assert permutation((3, 1), -1, 6).tolist() == [4, 3, 0, 2, 5, 1]
