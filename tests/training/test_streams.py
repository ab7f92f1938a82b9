import itertools

import pytest

from adain.training.crops import sample_rng
from adain.training.streams import StreamedCrops, position_on_other_ranks
from tests.training.test_crops import Readable


class Rows:
    """A stream of rows in the place of `datasets.IterableDataset`, split among ranks before."""

    def __init__(self, names):
        self.names = names

    def set_epoch(self, epoch):
        self.read = 0

    def load_state_dict(self, state):
        self.read = state["read"]

    def state_dict(self):
        return {"read": self.read}

    def __iter__(self):
        while self.read < len(self.names):
            self.read += 1
            yield {"image": {"bytes": None, "path": self.names[self.read - 1]}}


@pytest.fixture
def streamed(monkeypatch):
    monkeypatch.setattr("datasets.distributed.split_dataset_by_node", lambda stream, rank, world_size: stream)

    def call(names, shuffle_buffer=0, held_out="", broken=""):
        cells = [{"bytes": None, "path": name} for name in held_out]
        readable = Readable(*broken)
        return StreamedCrops(
            "rows", Rows(names), "image", shuffle_buffer, cells, lambda cell, rng: readable(cell["path"], rng), (1, 2)
        )

    return call


def test_a_stream_counts_samples_epochs_and_skipped_images(streamed):
    source = streamed("abcd", held_out="c", broken="b")
    samples = list(itertools.islice(source.samples(1, 3, None, None), 4))
    assert [sample.crop[0] for sample in samples] == list("adad")
    assert [sample.skipped for sample in samples] == [0, 1, 0, 1]
    assert [sample.position for sample in samples] == [
        {"index": 1, "round": 0, "state": {"read": 1}},
        {"index": 3, "round": 0, "state": {"read": 4}},
        {"index": 4, "round": 1, "state": {"read": 1}},
        {"index": 6, "round": 1, "state": {"read": 4}},
    ]
    draws = [sample.crop[1] for sample in samples]
    assert draws == [sample_rng((1, 2), 3 * index + 1).random() for index in (1, 3, 4, 6)]
    for cut in (1, 2, 3):
        resumed = itertools.islice(source.samples(1, 3, None, samples[cut - 1].position), 4 - cut)
        assert list(resumed) == samples[cut:]


def test_a_stream_without_a_state_starts_its_epoch(streamed):
    position = {"index": 7, "round": 5, "state": None}
    sample = next(streamed("ab").samples(0, 1, None, position))
    assert (sample.crop[0], sample.position) == ("a", {"index": 8, "round": 5, "state": {"read": 1}})


def test_a_stream_may_end_in_unreadable_images(streamed):
    """One whole epoch without a readable image is an error, and the rest of an epoch is not."""
    assert len(list(itertools.islice(streamed("abc", broken="bc").samples(0, 1, None, None), 5))) == 5
    with pytest.raises(ValueError, match="got none in a whole epoch"):
        next(streamed("abc", broken="abc").samples(0, 1, None, None))


def test_a_rank_without_rows_is_an_error(streamed):
    with pytest.raises(ValueError, match="Expected images for each of 9 ranks in rows, got none for rank 8"):
        next(streamed("ab", held_out="ab").samples(8, 9, None, None))


def test_a_shuffle_buffer_delays_rows_by_its_size(streamed):
    source = streamed("abcdefgh", shuffle_buffer=3)
    samples = list(itertools.islice(source.samples(0, 1, None, None), 8))
    names = [sample.crop[0] for sample in samples]
    assert sorted(names) == list("abcdefgh")
    assert names != sorted(names)
    for i, name in enumerate(names):
        assert "abcdefgh".index(name) <= i + 2
    assert [sample.position["state"]["read"] for sample in samples] == [3, 4, 5, 6, 7, 8, 8, 8]


def test_positions_on_another_number_of_ranks():
    assert position_on_other_ranks([{"index": 5}, {"index": 6}], 4) == {"index": 3}
    assert position_on_other_ranks([{"index": 5}, {"index": 7}], 3) == {"index": 5}, "rounded up"
    streams = [{"index": 4, "round": 2, "state": {}}, {"index": 4, "round": 1, "state": {}}]
    assert position_on_other_ranks(streams, 1) == {"index": 8, "round": 3, "state": None}
