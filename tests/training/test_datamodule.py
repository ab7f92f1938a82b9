import itertools
import logging
import re
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict, Image, load_from_disk
from PIL import Image as Pillow
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader

from adain.imaging import listing, photo
from adain.training.batches import EndlessBatches, PairDataset, PairStream
from adain.training.crops import Crop, IndexedCrops
from adain.training.datamodule import Pictures
from adain.training.module import crossed
from adain.training.sources import reason_of

SMALL = {"size": (32, 40), "crop": 24, "batch_size": 4, "val_pairs": 4, "workers": 0}


def opened(folders, **changes):
    data = Pictures(*map(str, folders), **{**SMALL, **changes})
    data.setup()
    return data


def first(source, n):
    return [source[i][0] for i in range(n)]


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def mean(crop):
    return crop.float().mean().item()


def test_crops_are_images_of_the_requested_size(folders):
    pairs = PairDataset(opened(folders).training)
    sample = pairs[0]
    for role in ("content", "style"):
        assert sample[role].shape == (3, 24, 24)
        assert sample[role].dtype == torch.uint8
        assert sample[role].min() < sample[role].max()


def test_a_sample_is_a_function_of_seed_and_index(folders):
    a, again, other = (opened(folders, seed=seed).training[0] for seed in (1, 1, 2))
    assert same(first(a, 30), first(again, 30))
    assert not same(first(a, 30), first(other, 30))
    assert torch.equal(a[17][0], again[17][0]), "regardless of what was read before"


def test_every_epoch_visits_each_image_once_and_none_of_those_held_out(tmp_path, make_picture):
    gray = [np.full((40, 40, 3), 10 * i, dtype=np.uint8) for i in range(12)]
    for i, values in enumerate(gray):
        (tmp_path / "p").mkdir(exist_ok=True)
        Pillow.fromarray(values).save(tmp_path / "p" / f"{i}.png")
    data = opened((tmp_path / "p", tmp_path / "p"))
    training, validation = data.training[0], data.validation[0]
    epochs = [[round(mean(training[i][0]) / 10) for i in range(8 * n, 8 * n + 8)] for n in (0, 1)]
    held_out = {round(mean(validation[i][0]) / 10) for i in range(4)}
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(set(range(12)) - held_out)
    assert epochs[0] != epochs[1]


def test_crops_keep_the_aspect_ratio_and_vary():
    image = photo.to_image(torch.linspace(0, 1, 90).expand(3, 30, 90))
    crop = Crop((24, 24), 24, flip=True)
    crops = [crop(image, np.random.default_rng(i)) for i in range(20)]
    slopes = [(c[0, 0, -1].item() - c[0, 0, 0].item()) / 255 for c in crops]
    assert min(slopes) < 0 < max(slopes), "some are flipped"
    assert np.allclose(np.abs(slopes), 23 / 72, atol=0.03), "none is distorted"
    assert len({round(mean(c)) for c in crops}) > 10, "they come from different places"


def jpeg(image, size):
    file = BytesIO()
    image.resize(size, Pillow.Resampling.LANCZOS).save(file, "JPEG", quality=92)
    return file.getvalue()


@pytest.mark.parametrize(
    ("width", "size", "limit"),
    [(640, 512, 0.8), (640, 256, 1.0), (1280, 256, 1.1), (640, 128, 1.3)],
    ids=["enlarged", "reduced", "decoded at half size", "decoded at half size and reduced"],
)
def test_crops_are_close_to_those_of_the_whole_image_in_lanczos(examples, width, size, limit):
    differences = []
    for path in sorted((examples / "content").iterdir()):
        data = jpeg(Pillow.open(path).convert("RGB"), (width, width * 3 // 4))
        crop = Crop((size, size), min(size, 256))(data, None)
        whole = Pillow.open(BytesIO(data))
        half = crop.shape[1] * whole.height / size / 2
        box = whole.width / 2 - half, whole.height / 2 - half, whole.width / 2 + half, whole.height / 2 + half
        exact = np.asarray(whole.resize(crop.shape[1:], Pillow.Resampling.LANCZOS, box))
        differences.append(np.abs(crop.permute(1, 2, 0).numpy().astype(float) - exact).mean())
    assert np.mean(differences) < limit, "levels of 255"


@pytest.mark.parametrize("side", [120, 128, 256])
def test_crops_do_not_alias(side):
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[:, ::2] = 255
    for image in (Pillow.fromarray(stripes), jpeg(Pillow.fromarray(stripes), (side, side))):
        crop = Crop((32, 32), 32)(image, None)
        assert (crop[:, :, 2:-2].float() - 127.5).abs().max() < 10, "stripes finer than a pixel are gray"


def test_a_jpeg_that_ends_early_is_skipped(tmp_path, make_picture, caplog):
    image = Pillow.open(make_picture(size=(300, 300)))
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "0.jpg").write_bytes(jpeg(image, (300, 300))[:5000])
    (tmp_path / "p" / "1.jpg").write_bytes(jpeg(image, (300, 300)))
    assert IndexedCrops(listing.files(tmp_path / "p"), Crop((64, 64), 64))[0][1] == 1
    assert "0.jpg is not a readable image" in caplog.text


def test_batches_are_bytes_until_they_are_on_the_device(folders):
    data = opened(folders, val_pairs=0)
    data.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", precision="bf16-true")
    batch = next(iter(data.train_dataloader()))
    crops = batch["content"]
    assert crops.dtype == torch.uint8
    assert crops.is_contiguous(memory_format=torch.channels_last)
    transferred = data.on_after_batch_transfer(dict(batch), 0)
    for role in ("content", "style"):
        assert torch.equal(transferred[role], (batch[role] / 255).bfloat16()), "in the precision of the trainer"
        assert transferred[role].is_contiguous(memory_format=torch.channels_last)


def test_ranks_share_the_samples_without_overlap():
    batches = [list(itertools.islice(EndlessBatches(6, rank, 2), 4)) for rank in (0, 1)]
    alone = list(itertools.islice(EndlessBatches(6), 4))
    assert [sorted(a + b) for a, b in zip(*batches, strict=True)] == alone
    assert list(itertools.chain(*alone)) == list(range(24))
    resumed = list(itertools.islice(EndlessBatches(6, 1, 2, start=2), 2))
    assert resumed == batches[1][2:]


def test_unreadable_images_are_skipped_and_counted(folders, caplog):
    source = opened(folders, val_pairs=0).training[0]
    with caplog.at_level(logging.WARNING):
        skipped = [source[i][1] for i in range(15)]
    assert sum(skipped) == 1
    assert "broken.jpg is not a readable image" in caplog.text


def test_nothing_but_unreadable_images(tmp_path):
    (tmp_path / "a.png").write_text("no")
    with pytest.raises(ValueError, match="Expected readable images, got 1 that cannot be read"):
        IndexedCrops(listing.files(tmp_path), Crop((8, 8), 8), (0, 0))[0]


@pytest.fixture
def parquet(folders, tmp_path):
    """The two folders as parquet datasets with an `image` column, including the unreadable image."""
    for folder in folders:
        cells = [{"bytes": path.read_bytes(), "path": path.name} for path in listing.files(folder)]
        data = Dataset.from_dict({"image": cells, "label": list(range(len(cells)))})
        data.cast_column("image", Image()).to_parquet(tmp_path / f"{folder.name}.parquet")
    return tmp_path / "content.parquet", tmp_path / "style.parquet"


def test_a_dataset_gives_the_same_samples_as_its_folder(folders, parquet, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    assert same(first(opened(folders).training[1], 20), first(opened(parquet).training[1], 20))


def test_a_dataset_saved_to_disk(folders, tmp_path):
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in listing.files(folders[0])]
    Dataset.from_dict({"image": cells}).cast_column("image", Image()).save_to_disk(tmp_path / "saved")
    DatasetDict({"train": load_from_disk(tmp_path / "saved")}).save_to_disk(tmp_path / "splits")
    expected = first(opened(folders).training[0], 5)
    for name in ("saved", "splits"):
        assert same(expected, first(opened((tmp_path / name, folders[1])).training[0], 5))


def stream(data, rank=0, world=1, position=None, threads=0):
    return iter(PairStream(data.training, rank, world, threads, position))


@pytest.mark.parametrize("threads", [0, 2])
@pytest.mark.parametrize("mixed", [False, True])
def test_an_unshuffled_stream_continues_exactly(folders, parquet, threads, mixed):
    sources = (parquet[0], folders[1] if mixed else parquet[1])
    data = opened(sources, streaming=True, shuffle_buffer=0)
    samples = list(itertools.islice(stream(data, threads=threads), 30))
    for cut in (1, 9, 10, 17, 25):  # within and past the first epoch of 10
        resumed = itertools.islice(stream(data, threads=threads, position=samples[cut - 1]["position"]), 30 - cut)
        for a, b in zip(samples[cut:], resumed, strict=True):
            assert torch.equal(a["content"], b["content"])
            assert torch.equal(a["style"], b["style"])


def named(source):
    """Return the source with the names of its images in place of their crops."""
    source.crop = lambda cell, rng: cell["path"]
    return source


def test_a_stream_read_by_a_worker_process_continues_exactly(parquet):
    def batches(workers, state=None):
        data = opened(parquet, streaming=True, shuffle_buffer=0, batch_size=2, workers=workers)
        data.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
        if state:
            data.load_state_dict(state)
        loader = data.train_dataloader()
        assert loader.num_workers == min(workers, 1), "a stream is read by a single process"
        return data, iter(loader)

    alone, working = ([next(loader) for _ in range(9)] for _, loader in (batches(0), batches(2)))
    assert [len(batch["content"]) for batch in alone] == [2] * 9
    assert all(torch.equal(a["style"], b["style"]) for a, b in zip(alone, working, strict=True))
    data, loader = batches(2)
    for _ in range(4):
        data.position = next(loader)["position"]  # as training does
    _, resumed = batches(2, data.state_dict())
    assert all(torch.equal(a["style"], next(resumed)["style"]) for a in alone[4:])


def test_a_shuffled_stream_repeats_nothing_in_an_epoch_even_if_resumed(parquet):
    source = named(opened(parquet, streaming=True, shuffle_buffer=5, val_pairs=0).training[0])
    samples = list(itertools.islice(source.samples(0, 1, None, None), 30))
    names = [name for name, _, _ in samples]
    assert sorted(names[:15]) == sorted(names[15:]), "every image once in an epoch"
    assert names[:15] != names[15:] != sorted(names[15:])
    for cut in range(1, 15):
        resumed = source.samples(0, 1, None, samples[cut - 1][2])
        rest = [name for name, _, _ in itertools.takewhile(lambda sample: sample[2]["round"] == 0, resumed)]
        assert not set(rest) & set(names[:cut])
        assert len(rest) >= 15 - cut - 4, "no more is lost than the buffer holds"


def test_rows_without_an_image_are_skipped(tmp_path, make_picture):
    good = {"bytes": make_picture().read_bytes(), "path": None}
    data = Dataset.from_dict({"image": [None, good] * 4}).cast_column("image", Image())
    data.to_parquet(tmp_path / "holes.parquet")
    sources = tmp_path / "holes.parquet", tmp_path / "holes.parquet"
    for streaming in (False, True):
        data = opened(sources, streaming=streaming, shuffle_buffer=0, val_pairs=0)
        if streaming:
            samples = list(itertools.islice(stream(data), 4))
        else:
            samples = [PairDataset(data.training)[i] for i in range(4)]
        assert sum(sample["skipped"] for sample in samples) > 0


def test_a_stream_without_readable_images_ends(tmp_path):
    cells = [{"bytes": b"no picture", "path": None}] * 5
    Dataset.from_dict({"image": cells}).cast_column("image", Image()).to_parquet(tmp_path / "bad.parquet")
    data = opened((tmp_path / "bad.parquet",) * 2, streaming=True, shuffle_buffer=0, val_pairs=0)
    with pytest.raises(ValueError, match=r"Expected readable images in .*bad.parquet, got none in a whole epoch"):
        next(stream(data))


def test_the_ranks_of_a_stream_get_different_images(parquet):
    data = opened(parquet, streaming=True, shuffle_buffer=0, size=(24, 24), flip=False)
    source = named(data.training[0])
    names = [{name for name, _, _ in itertools.islice(source.samples(rank, 2, None, None), 5)} for rank in (0, 1)]
    assert not names[0] & names[1]
    held_out = {cell["path"] for cell in data.validation[0].images}
    assert not held_out & (names[0] | names[1]), "held-out images are not trained on"


def test_a_stream_counts_its_unreadable_images(parquet):
    data = opened(parquet, streaming=True, shuffle_buffer=0, val_pairs=0)
    samples = list(itertools.islice(stream(data), 14))
    assert sum(sample["skipped"] for sample in samples) == 2, "one in each source"


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # where there is one core
def test_workers_change_nothing(folders):
    data = opened(folders)
    batches = []
    for workers in (0, 2):
        loader = DataLoader(PairDataset(data.training), batch_sampler=EndlessBatches(2), num_workers=workers)
        batches.append(list(itertools.islice(loader, 3)))
    for a, b in zip(*batches, strict=True):
        assert torch.equal(a["content"], b["content"])


@pytest.mark.parametrize(("name", "calls"), [("./nothing", 0), ("a\\b", 0), ("a/b.parquet", 0), ("a/b", 1)])
def test_only_names_are_looked_up_at_the_hub_and_without_its_warnings(name, calls, monkeypatch, caplog):
    called = []

    def fail(*words, **_):
        called.append(words)
        logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s")
        raise OSError("no network")

    monkeypatch.setattr("datasets.load_dataset", fail)
    monkeypatch.setattr(logging.getLogger("huggingface_hub"), "propagate", True)
    reason = "no such folder or file" + (", and none found on the Hub: no network" if calls else "")
    with pytest.raises(OSError, match=rf"got {re.escape(name)} \({reason}\)$"):
        opened((name, name))
    assert len(called) == calls
    assert not caplog.records


def test_wrong_sources(folders, parquet, tmp_path):
    with pytest.raises(ValueError, match=r"<= largest size, got crop 64 and size \[32, 40\]"):
        Pictures(size=(32, 40), crop=64)
    with pytest.raises(ValueError, match="than the 15 held out, got 15; add images"):
        opened(folders, val_pairs=15)
    with pytest.raises(OSError, match=r"Expected a folder of images, a local dataset, .*got nobody/nothing"):
        opened(("nobody/nothing", "nobody/nothing"))
    with pytest.raises(ValueError, match=r"Expected a column of images in .*, got picture; choose from image"):
        opened(parquet, column="picture")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="Expected images in"):
        opened((tmp_path / "empty", folders[1]))


def test_every_content_of_a_batch_meets_several_styles(folders):
    data = opened(folders, batch_size=6, styles_per_content=2)
    data.trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    batch = next(iter(data.train_dataloader()))
    assert len(batch["content"]) == len(batch["style"]) == 3
    contents, styles = crossed(3, batch["styles_per_content"], torch.device("cpu"))
    pairs = set(zip(contents.tolist(), styles.tolist(), strict=True))
    assert len(pairs) == 6, "no pair comes twice"
    assert contents.bincount().tolist() == styles.bincount().tolist() == [2, 2, 2]


@pytest.mark.parametrize(("batch_size", "styles"), [(8, 3), (6, 3), (8, 0)])
def test_batches_that_cannot_be_crossed(batch_size, styles, folders):
    with pytest.raises(ValueError, match="multiple of styles_per_content"):
        Pictures(*map(str, folders), batch_size=batch_size, styles_per_content=styles)


@pytest.mark.parametrize(
    ("batch_size", "styles", "ranks", "message"),
    [
        (8, 1, 3, "that 3 ranks can share, got 8; use 6 or 9"),
        (2, 1, 3, "that 3 ranks can share, got 2; use 3"),
        (8, 2, 3, "that 3 ranks and 2 styles for each content can share, got 8; use 12"),
        (20, 2, 3, "that 3 ranks and 2 styles for each content can share, got 20; use 18 or 24"),
    ],
)
def test_batches_that_the_ranks_cannot_share(batch_size, styles, ranks, message, folders):
    data = Pictures(*map(str, folders), **{**SMALL, "batch_size": batch_size, "styles_per_content": styles})
    data.trainer = SimpleNamespace(world_size=ranks)
    with pytest.raises(ValueError, match=message):
        data.setup()


@pytest.mark.parametrize(("batch_size", "styles", "ranks"), [(6, 1, 3), (12, 2, 3), (1, 1, 1)])
def test_batches_that_the_ranks_can_share(batch_size, styles, ranks, folders):
    data = Pictures(*map(str, folders), **{**SMALL, "batch_size": batch_size, "styles_per_content": styles})
    data.trainer = SimpleNamespace(world_size=ranks)
    data.setup()
    assert data.images_per_batch % ranks == 0


def test_content_and_style_are_drawn_independently(folders):
    data = opened((folders[0], folders[0]), flip=False, val_pairs=0, size=(24, 24), crop=24)
    contents, styles = (first(source, 14) for source in data.training)
    assert not same(contents, styles), "an image is not always paired with itself"
    orders = [[round(mean(crop), 2) for crop in crops] for crops in (contents, styles)]
    assert orders[0] != orders[1]


def test_sizes_are_drawn_from_the_whole_range():
    image = photo.to_image(torch.linspace(0, 1, 200).expand(3, 200, 200))
    crop = Crop((24, 48), 24)
    slopes = [np.ptp(crop(image, np.random.default_rng(i))[0, 0].numpy()) / 255 for i in range(60)]
    sizes = [23 / slope for slope in slopes]  # the gradient rises by 1 over the resized image
    assert 23 < min(sizes) < 27
    assert 45 < max(sizes) < 50
    assert 30 < np.mean(sizes) < 42


def test_streams_cannot_resume_a_run_without_them_on_other_ranks(folders):
    data = opened(folders)
    data.load_state_dict({"position": [None, None], "batch_size": 2})
    assert data._resumed_position(1, 2) is None
    with pytest.raises(ValueError, match=r"run with --data\.streaming true on 4 ranks, got one without it on 2; leave"):
        data._resumed_position(0, 4)


def test_an_error_without_a_message_is_named(tmp_path):
    assert reason_of(ValueError(), str(tmp_path)) == "ValueError"
    assert reason_of(ValueError("first\nsecond"), str(tmp_path)) == "first"
