"""Each kind of source and target: what belongs to the images is kept."""

import itertools
import json
import pickle
import sys

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from adain.datasets import table_source
from adain.datasets.options import SourceOptions
from adain.datasets.sources import open_source
from tests.conftest import picture_of_bytes
from tests.datasets.conftest import (
    CLASSES,
    COUNT,
    FEATURES,
    contents,
    encoded,
    read_shard,
    rows,
    size_of,
    write_shard,
)


def others(row):
    return {name: value for name, value in row.items() if name != "image"}


def read_parquet(folder):
    """The rows of a folder of parquet files, and their features."""
    tables = [pq.read_table(path) for path in sorted(folder.rglob("*.parquet"))]
    features = datasets.Features.from_arrow_schema(tables[0].schema)
    return [row for table in tables for row in table.to_pylist()], features


def write_parquet(table, folder):
    folder.mkdir()
    table.select(range(5)).to_parquet(folder / "train-00000-of-00002.parquet")
    table.select(range(5, COUNT)).to_parquet(folder / "train-00001-of-00002.parquet")
    return folder


@pytest.mark.parametrize("kind", ["parquet", "saved", "splits", "arrow"])
def test_tables_keep_their_columns(kind, table, run, tmp_path):
    source = tmp_path / "source"
    if kind == "parquet":
        write_parquet(table, source)
    elif kind == "splits":
        datasets.DatasetDict({"train": table, "test": table.select([0])}).save_to_disk(source)
    else:
        table.save_to_disk(source)
        if kind == "arrow":
            (source / "state.json").unlink()
    report = run(source, tmp_path / "out")
    assert report.failures == []
    names = [path.name for path in sorted((tmp_path / "out").glob("*.parquet"))]
    if kind == "parquet":
        assert names == [
            *(f"train-00000-of-00002-{number:05}.parquet" for number in range(3)),
            "train-00001-of-00002.parquet",
        ]
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=tmp_path / "cache")
    assert {split: len(part) for split, part in loaded.items()} == (
        {"train": COUNT, "test": 1} if kind == "splits" else {"train": COUNT}
    )
    assert loaded["train"].features == FEATURES
    found = loaded["train"].with_format("arrow")[:].to_pylist()
    given = table.with_format("arrow")[:].to_pylist()
    for one, row in zip(found, given, strict=True):
        assert others(one) == others(row)
        assert one["image"]["bytes"] != row["image"]["bytes"]
        assert size_of(one["image"]["bytes"]) == size_of(row["image"]["bytes"])
        assert one["image"]["bytes"][:2] == row["image"]["bytes"][:2], "the same format"


def test_a_saved_table_and_its_parquet_files_by_ranges_of_any_size(table, run, tmp_path):
    """Rows are drawn for by their number: the size of pieces changes nothing but rounding, here nothing at all."""
    write_parquet(table, tmp_path / "source")
    for size in (1, 3, 100):
        run(tmp_path / "source", tmp_path / str(size), shard_size=size, batch_size=1, crop=32, alpha=(0, 1))
    found = [read_parquet(tmp_path / str(size))[0] for size in (1, 3, 100)]
    assert found[0] == found[1] == found[2]
    assert [row["image_id"] for row in found[0]] == [row["image_id"] for row in rows()]


@pytest.mark.parametrize("rows", [1, 2, 64])
def test_row_groups_that_straddle_ranges(table, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(table_source, "ROWS", rows)
    path = tmp_path / "table.parquet"
    pq.write_table(table.with_format("arrow")[:], path, row_group_size=3)
    source = open_source(path, SourceOptions(shard_size=2))
    found = [[sample.row["image_id"][0].as_py() for sample in source.read(unit)] for unit in source.units()]
    assert found == [["id0", "id1"], ["id2", "id3"], ["id4", "id5"], ["id6"]]


def test_plain_bytes_and_keys_from_a_column(table, run, tmp_path):
    path = tmp_path / "in" / "plain.parquet"
    path.parent.mkdir()
    plain = [{"jpeg": row["image"]["bytes"], "id": row["image_id"]} for row in rows()]
    datasets.Dataset.from_list(plain).to_parquet(path)
    for name, order in (("a", plain), ("b", plain[::-1])):
        datasets.Dataset.from_list(order).to_parquet(path)
        run(path, tmp_path / name, column="jpeg", key="id", batch_size=1, per_content=2)
    first, last = (read_parquet(tmp_path / name)[0] for name in "ab")
    assert sorted(map(str, first)) == sorted(map(str, last)), "the key is the column, not the place"
    assert [row["id"] for row in first] == [f"id{i}" for i in range(COUNT) for _ in range(2)]
    assert len({row["jpeg"] for row in first}) == 2 * COUNT


def test_folders_keep_names_and_formats(photos, run, tmp_path):
    report = run(photos, tmp_path / "out")
    assert report.results == report.made == COUNT
    given, found = contents(photos), contents(tmp_path / "out")
    assert found.keys() == given.keys()
    for name, data in found.items():
        assert size_of(data) == size_of(given[name])
        assert data != given[name]
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {*CLASSES}, "for ImageFolder"


def test_several_results_for_each_image_and_crops(photos, run, tmp_path):
    run(photos, tmp_path / "out", per_content=3, crop=32, suffix=".webp")
    found = contents(tmp_path / "out")
    assert found.keys() == {f"{CLASSES[i % 2]}/{i}-{k}.webp" for i in range(COUNT) for k in range(3)}
    assert {size_of(data) for data in found.values()} == {(32, 32)}
    assert len({*found.values()}) == 3 * COUNT
    run(photos, tmp_path / "large", crop=64, size=None)
    assert {size_of(data) for data in contents(tmp_path / "large").values()} == {(64, 64)}, "enlarged"


def test_files_whose_names_differ_in_the_suffix_only(photos, run, tmp_path):
    Image.open(photos / "cat/4.png").save(photos / "cat/4.bmp")
    run(photos, tmp_path / "out", suffix=".png")
    assert len(contents(tmp_path / "out")) == COUNT + 1


def test_images_that_are_not_chosen_keep_their_bytes(photos, run, tmp_path):
    run(photos, tmp_path / "none", p=0)
    assert contents(tmp_path / "none") == contents(photos)
    run(photos, tmp_path / "half", p=0.5)
    given, found = contents(photos), contents(tmp_path / "half")
    same = [name for name in given if found[name] == given[name]]
    assert 0 < len(same) < COUNT


def test_crops_are_parts_of_the_images_at_drawn_places(photos, run, tmp_path):
    run(photos, tmp_path / "out", p=0, crop=32, per_content=4)
    found = []
    for path in sorted((tmp_path / "out").rglob("*.png")):
        square = np.asarray(Image.open(path))
        whole = np.asarray(Image.open(photos / path.parent.name / f"{path.stem[0]}.png"))
        places = itertools.product(range(whole.shape[0] - 31), range(whole.shape[1] - 31))
        found += [(y, x) for y, x in places if np.array_equal(whole[y : y + 32, x : x + 32], square)]
    assert len(found) == 16
    assert {y for y, _ in found} == {*range(5)}
    assert len({x for _, x in found}) > 5


def test_tar_shards_keep_their_members(shards, run, tmp_path):
    run(f"{shards}/train-{{000..002}}.tar", tmp_path / "out")
    for path in sorted(shards.glob("*.tar")):
        given, found = read_shard(path), read_shard(tmp_path / "out" / path.name)
        assert found.keys() == given.keys()
        for name, data in found.items():
            assert (data == given[name]) == (not name.endswith(".jpg")), name
    loaded = datasets.load_dataset(str(tmp_path / "out"), cache_dir=tmp_path / "cache")["train"]
    assert [row["cls"] for row in loaded] == [0, 1] * 3
    assert loaded[0]["json"] == {"box": [1, 2.5]}


def test_patterns_of_shards(shards, tmp_path):
    def names(pattern):
        return [unit.name for unit in open_source(pattern).units()]

    assert names(shards) == names(f"{shards}/*.tar") == ["train-000", "train-001", "train-002"]
    assert names(f"{shards}/train-00{{0,2}}.tar") == ["train-000", "train-002"]
    with pytest.raises(FileNotFoundError, match=r"train-003.tar: no such file"):
        open_source(f"{shards}/train-{{002..003}}.tar")


def test_a_member_that_is_chosen(tmp_path, run):
    members = [("a.left.png", encoded(1)), ("a.right.png", encoded(2))]
    shard = write_shard(tmp_path / "pairs.tar", members)
    with pytest.raises(ValueError, match=r"got 2 in left.png, right.png; choose one with --column"):
        open_source(shard)
    run(shard, tmp_path / "out", column="right.png")
    found = read_shard(tmp_path / "out" / "pairs.tar")
    assert found["a.left.png"] == members[0][1]
    assert found["a.right.png"] != members[1][1]


def test_folder_to_parquet(photos, run, tmp_path):
    run(photos, tmp_path / "out", format="parquet")
    found, features = read_parquet(tmp_path / "out")
    assert features["label"].names == [*CLASSES]
    names = sorted(contents(photos))
    assert [row["image"]["path"] for row in found] == names
    assert [CLASSES[row["label"]] for row in found] == [name.split("/")[0] for name in names]


def test_folder_to_shards(photos, run, tmp_path):
    (photos / "cat" / "0.JPEG").rename(photos / "cat" / "a.b.JPEG")
    run(photos, tmp_path / "out", format="webdataset")
    found = {}
    for path in sorted((tmp_path / "out").glob("*.tar")):
        found |= read_shard(path)
    labels = {name.partition(".")[0]: data for name, data in found.items() if name.endswith(".cls")}
    assert len(found) == 2 * COUNT
    assert {name.split("/")[0]: data for name, data in labels.items()} == {"cat": b"0", "dog": b"1"}
    assert [name.count(".") for name in found] == [1] * 2 * COUNT, "a dot in a name would be part of the suffix"


def test_table_to_folder(table, run, tmp_path):
    table.save_to_disk(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out", format="folder", shard_size=4)
    loaded = datasets.load_dataset("imagefolder", data_dir=str(tmp_path / "out"), cache_dir=tmp_path / "cache")
    found = sorted(loaded["train"], key=lambda row: row["image_id"])
    for one, row in zip(found, table, strict=True):
        assert np.array_equal(np.asarray(one.pop("mask")), np.asarray(row.pop("mask")))
        assert np.asarray(one.pop("size")).tolist() == row.pop("size")
        assert others(one) == others(row)


def test_keys_that_give_the_same_file_name(table, run, tmp_path):
    keys = ["a.b", "a_b", "a_b", "x" * 300, "x" * 301, *map(str, range(COUNT - 5))]
    table.add_column("key", keys).save_to_disk(tmp_path / "in")
    report = run(tmp_path / "in", tmp_path / "out", format="folder", key="key", shard_size=COUNT)
    files = (tmp_path / "out").rglob("*.*")
    images = [path.stem for path in files if path.suffix != ".parquet" and ".mask" not in path.name]
    images = [name for name in images if not name.startswith(".")]
    assert len(images) == len({*images}) == report.results == COUNT
    assert sum(name.startswith("a_b") for name in images) == 3
    assert max(map(len, images)) <= 200


def test_table_to_shards_and_back(table, run, tmp_path):
    table.save_to_disk(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "shards", format="webdataset", key="image_id")
    found = {}
    for path in sorted((tmp_path / "shards").glob("*.tar")):
        found |= read_shard(path)
    for row in rows():
        key = row["image_id"]
        assert found[f"{key}.cls"] == str(row["label"]).encode()
        assert found[f"{key}.mask"] == row["mask"]["bytes"]
        rest = json.loads(found[f"{key}.json"])
        assert rest == {name: row[name] for name in ("image_id", "label", "objects", "size")}
    run(tmp_path / "shards", tmp_path / "back", format="parquet")
    back, features = read_parquet(tmp_path / "back")
    assert [row["__key__"] for row in back] == [row["image_id"] for row in rows()]
    assert [row["cls"] for row in back] == [row["label"] for row in rows()]
    assert isinstance(features["image"], datasets.Image)


def test_shards_to_folder(shards, run, tmp_path):
    run(shards, tmp_path / "out", format="folder")
    found = contents(tmp_path / "out")
    for path in sorted(shards.glob("*.tar")):
        for name, data in read_shard(path).items():
            assert (found[f"{path.stem}/{name}"] == data) == (not name.endswith(".jpg"))


def test_styles_from_a_data_set_are_those_of_a_folder(photos, run, tmp_path):
    """The bank has the order of digests, wherever the images lie."""
    styles = tmp_path / "styles"
    styles.mkdir()
    for i in range(3):
        (styles / f"{i}.png").write_bytes(encoded(200 + i))
    shard = write_shard(tmp_path / "styles.tar", [(f"{i}.png", encoded(202 - i)) for i in range(3)])
    run(photos, tmp_path / "a", style=styles)
    run(photos, tmp_path / "b", style=shard)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    run(photos, tmp_path / "c", style=styles / "0.png")
    assert contents(tmp_path / "c") != contents(tmp_path / "a")


def test_results_are_those_of_stylize(photos, run, lite, tmp_path):
    """A batch, and a large image in tiles, are what `stylize` makes of each image alone, up to rounding."""
    from adain.datasets import network
    from adain.inference import pipeline, style_encoding

    for path in sorted(photos.rglob("*.*"))[2:]:
        path.unlink()
    style = tmp_path / "style.png"
    style.write_bytes(encoded(9))
    code = style_encoding.encode_style(lite, style, 256)
    code = {name: part.half().float() for name, part in code.items()}
    run(photos, tmp_path / "out", style=style, alpha=0.6)
    for name, data in contents(tmp_path / "out").items():
        if name.endswith("png"):
            wanted = pipeline.stylize(photos / name, code, lite, alpha=0.6)
            (tmp_path / "one.png").write_bytes(data)
            found = torch.from_numpy(np.asarray(Image.open(tmp_path / "one.png")).copy()).permute(2, 0, 1)[None]
            assert (found / 255 - wanted).abs().max() < 1.01 / 255
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "MAX_PIXELS", 100)
        run(photos, tmp_path / "large", style=style, alpha=0.6, suffix=".png")
    run(photos, tmp_path / "small", style=style, alpha=0.6, suffix=".png")
    small, large = contents(tmp_path / "small"), contents(tmp_path / "large")
    for name, data in small.items():
        (tmp_path / "one.png").write_bytes(data)
        (tmp_path / "two.png").write_bytes(large[name])
        one, two = (np.asarray(Image.open(tmp_path / file), np.int16) for file in ("one.png", "two.png"))
        assert np.abs(one - two).max() <= 1


@pytest.mark.skipif(sys.platform != "linux", reason="names are text")
def test_files_of_tables_have_names_that_are_text(run, tmp_path):
    picture_of_bytes(tmp_path / "in" / "caf\udce9.png")
    run(tmp_path / "in", tmp_path / "out", format="parquet")
    assert [row["image"]["path"] for row in read_parquet(tmp_path / "out")[0]] == ["caf?.png"]


def test_sources_travel_without_their_files(photos, table, tmp_path):
    table.save_to_disk(tmp_path / "saved")
    for name in (photos, tmp_path / "saved"):
        source = open_source(name, SourceOptions(shard_size=2))
        copy = pickle.loads(pickle.dumps(source))
        for unit in source.units():
            assert [sample.key for sample in copy.read(unit)] == [sample.key for sample in source.read(unit)]


def test_names_of_strangers_do_not_leave_the_output(run, table, tmp_path):
    shard = write_shard(tmp_path / "in.tar", [(f"{name}.png", encoded(1)) for name in ("../up", "/root", "a/../../b")])
    run(shard, tmp_path / "inner" / "out", format="folder")
    assert contents(tmp_path / "inner").keys() == {f"out/in/{name}.png" for name in ("_/up", "root", "a/_/_/b")}
    named = table.map(lambda row, number: {"image_id": f"../{number}"}, with_indices=True)
    named.save_to_disk(tmp_path / "named")
    run(tmp_path / "named", tmp_path / "deep" / "out", format="folder", key="image_id")
    assert all(name.startswith("out/train-") and ".." not in name for name in contents(tmp_path / "deep"))
