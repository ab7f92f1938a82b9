import json
import os
import signal
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adain.batch import folder_run, reading, runner
from adain.batch.jobs import Job
from adain.batch.runner import stylize_folder
from adain.imaging import photo, reader, writer
from adain.imaging.photo import Photo
from adain.inference import full_size, pipeline, preparation, style_encoding
from adain.inference.options import StyleOptions
from adain.methods import Johnson
from tests.conftest import ROOT, SIZES, picture, write_csv


@pytest.fixture(scope="module")
def lite():
    return preparation.prepare("adain-lite", "cpu", "fp32")


@pytest.fixture
def run_folder(tree, lite):
    """`paint_folder` on the tree, in this process unless told otherwise."""

    def call(*, content=tree[0], style=tree[1], output=tree[2], method=lite, workers=0, **options):
        return stylize_folder(content, style, output, method=method, workers=workers, **{"quiet": True, **options})

    return call


@pytest.fixture
def calls(monkeypatch):
    """How many pictures each call of `adain.stylize` got."""
    counts, stylize = [], pipeline.stylize

    def counting(content, *args, **kwargs):
        counts.append(len(content.pixels) if isinstance(content, Photo) else 0)
        return stylize(content, *args, **kwargs)

    monkeypatch.setattr(pipeline, "stylize", counting)
    return counts


def results(output):
    """The files in the output folder, manifests aside, with their bytes."""
    files = [path for path in output.rglob("*") if path.is_file() and path.suffix != ".jsonl"]
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}


def lines(output, name="manifest.jsonl"):
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image).astype(int)


def assert_alike(output, whole):
    """The folder holds these files and no others, equal to 1/255: more is not the same in another batch."""
    assert results(output).keys() == whole.keys()
    for name, data in whole.items():
        assert abs(pixels(output / name) - pixels(BytesIO(data))).max() <= 1


def test_all_pairs_in_a_mirrored_tree(run_folder, tree):
    assert run_folder() == []
    expected = {f"{name}__{style}.png" for name in SIZES for style in "xyz"}
    assert results(tree[2]).keys() == expected
    found = lines(tree[2])
    assert {line["output"] for line in found} == expected
    one = next(line for line in found if line["output"] == "cats/b__y.png")
    assert (one["content"], one["style"], one["alpha"], one["seed"]) == ("cats/b.png", "y.png", 1, 0)
    assert one["bytes"] == (tree[2] / "cats/b__y.png").stat().st_size
    assert one["seconds"] > 0


def test_results_are_those_of_stylize_whatever_the_batch(run_folder, tree, lite, calls):
    assert run_folder(batch_size=4) == []
    assert max(calls) == 4, "batches, also of different styles"
    batched = {name: pixels(tree[2] / name) for name in results(tree[2])}
    calls.clear()
    assert run_folder(batch_size=1, output=tree[2].with_name("single")) == []
    assert {*calls} == {1}
    assert_alike(tree[2].with_name("single"), results(tree[2]))
    for name, values in batched.items():
        content, style = name.removesuffix(".png").split("__")
        alone = pipeline.stylize(tree[0] / f"{content}.png", tree[1] / f"{style}.png", lite)
        truth = np.asarray(photo.to_image(alone)).astype(int)
        assert values.shape == truth.shape
        assert abs(values - truth).max() <= 1
    assert len({values.tobytes() for values in batched.values()}) == 12, "no two are alike"


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.4, "size": 24},
        {"alpha": 0.4, "alpha_blend": "features"},
        {"style_size": "content"},
        {"color": "coral", "style_size": 24},
        {"color": "keep-luminance", "photorealistic": True},
        {"tile": 16},
    ],
    ids=str,
)
def test_settings_are_passed_on(run_folder, tree, lite, options):
    table = write_csv(tree[0].parent / "pairs.csv", "content,style", "a.png,x.png", "dogs/b.png,y.png")
    assert run_folder(pairs=table, **options) == []
    for name in ("a__x", "dogs/b__y"):
        content, style = name.split("__")
        alone = pipeline.stylize(tree[0] / f"{content}.png", tree[1] / f"{style}.png", lite, **options)
        assert abs(pixels(tree[2] / f"{name}.png") - np.asarray(photo.to_image(alone)).astype(int)).max() <= 1


def test_styles_come_to_no_larger_side_than_a_single_picture_s(run_folder, tree, lite, monkeypatch):
    monkeypatch.setattr(style_encoding, "LARGEST_STYLE", 20)
    assert (
        run_folder(pairs=write_csv(tree[0].parent / "t.csv", "content,style", "a.png,x.png"), style_size="content")
        == []
    )
    alone = pipeline.stylize(tree[0] / "a.png", tree[1] / "x.png", lite, style_size="content")
    assert abs(pixels(tree[2] / "a__x.png") - np.asarray(photo.to_image(alone)).astype(int)).max() <= 1


def test_each_row_of_a_table_has_its_own_alpha_in_a_batch(run_folder, tree, lite, calls):
    rows = {"a": 0.1, "cats/c": 0.9, "dogs/b": 0.5}  # all of one size, so that they could share a batch
    table = [f"{name}.png,x.png,{alpha}" for name, alpha in rows.items()]
    table += [f"{name}.png,y.png,0.3" for name in rows]
    assert run_folder(pairs=write_csv(tree[0].parent / "t.csv", "content,style,alpha", *table)) == []
    assert max(calls) == 3, "the rows of one alpha are a batch"
    for name, alpha in rows.items():
        alone = pipeline.stylize(tree[0] / f"{name}.png", tree[1] / "x.png", lite, alpha=alpha)
        found = pixels(tree[2] / f"{name}__x.png")
        assert abs(found - np.asarray(photo.to_image(alone)).astype(int)).max() <= 1, name


def test_random_pairs_are_the_same_for_any_workers_and_ranks(run_folder, tree, monkeypatch):
    for i in range(8):
        picture(tree[0] / f"more/{i}.png", (24, 24), i)
    assert run_folder(pairs="random") == []
    alone = results(tree[2])
    assert len(alone) == 12
    assert len({name.split("__")[1] for name in alone}) == 3, "not one style for all"
    assert run_folder(pairs="random", workers=1, batch_size=1, output=tree[2].with_name("workers")) == []
    assert results(tree[2].with_name("workers")).keys() == alone.keys()
    assert run_folder(pairs="random", seed=1, output=tree[2].with_name("seed")) == []
    assert results(tree[2].with_name("seed")).keys() != alone.keys()

    monkeypatch.setenv("WORLD_SIZE", "2")
    ranks = tree[2].with_name("ranks")
    for rank in "01":
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("LOCAL_RANK", rank)
        before = results(ranks)
        assert run_folder(pairs="random", output=ranks) == []
        assert len(results(ranks)) == len(before) + 6
        assert before.items() <= results(ranks).items(), "no file twice"
    assert_alike(ranks, alone)
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(ValueError, match="Expected RANK from 0 to WORLD_SIZE - 1, got 1 and 1; start the run with"):
        run_folder(pairs="random", output=ranks)
    monkeypatch.setenv("RANK", "0")
    (ranks / "manifest-0.jsonl").rename(ranks / "manifest-7.jsonl")
    assert run_folder(pairs="random", output=ranks) == []
    assert not (ranks / "manifest.jsonl").exists(), "what any rank did is done"


def test_each_rank_has_a_gpu(run_folder, monkeypatch):
    def prepare(method, device, *_):
        raise ValueError(f"on {device}")

    monkeypatch.setattr(preparation, "prepare", prepare)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"WORLD_SIZE": "6", "RANK": "5", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    for device, used in {"auto": "cuda:1", "cpu": "cpu"}.items():
        with pytest.raises(ValueError, match=f"on {used}"):
            run_folder(method="adain-lite", device=device)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ValueError, match="on auto"):
        run_folder(method="adain-lite")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pairs": "some"}, "name a CSV file of pairs, or all of them with all"),
        ({"style": None}, "AdaINLite needs a folder of styles"),
        ({"method": Johnson(4, 1)}, "Johnson takes no styles"),
        ({"method": Johnson(4, 1), "style": None, "alpha": 0.5}, "full strength only"),
        ({"alpha": 2}, "alpha must be between 0"),
        ({"color": "gray"}, "color"),
        ({"size": 0}, "at least 1 pixel"),
        ({"wrokers": 0}, "unknown option wrokers; did you mean workers"),
        ({"method": "adain-lite", "alhpa": 1}, "unknown option alhpa; did you mean alpha"),
        ({"style_size": 0}, "at least 1 pixel"),
        ({"suffix": ".xyz"}, "Expected a name that ends in one of .png"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"content": "missing"}, "missing: no such folder"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_before_any_work(run_folder, tree, options, message):
    with pytest.raises((ValueError, OSError), match=message):
        run_folder(**options)
    assert not tree[2].exists()


def test_bad_pictures_are_passed_over_and_named(run_folder, tree):
    content, style, output = tree
    (content / "cats/broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (content / "empty.png").write_bytes(b"")
    (style / "torn.png").write_bytes((style / "x.png").read_bytes()[:200])
    for workers in (0, 1):
        failures = dict(run_folder(workers=workers))
        assert failures.keys() == {content / "cats/broken.jpg", content / "empty.png", style / "torn.png"}
        assert all(reason.startswith("is not a readable image") for reason in failures.values())
        assert results(output).keys() == {f"{name}__{style}.png" for name in SIZES for style in "xyz"}
    assert dict(run_folder(color="coral")).keys() == failures.keys()


@pytest.mark.timeout(120)  # seconds: forked workers would hang
def test_workers_read_16_bit_files_after_libvips_was_used_in_this_process(run_folder, tree):
    content, *_, output = tree
    for path in content.rglob("*.png"):
        values = reader.load(path).pixels.to(torch.uint16) * 257
        writer.save(values, path)
        assert reader.load(path).pixels.dtype == torch.uint16
    assert run_folder(workers=1) == []
    assert len(results(output)) == 3 * len(SIZES)


def test_what_cannot_be_stylized_in_a_batch_is_stylized_alone(run_folder, tree, monkeypatch):
    stylize = pipeline.stylize

    def fails(content, *args, **kwargs):
        if len(content.pixels) > 1 or content.pixels.shape[3] == 32:
            raise ValueError("too\nmuch")
        return stylize(content, *args, **kwargs)

    monkeypatch.setattr(pipeline, "stylize", fails)
    assert run_folder() == [(tree[0] / "cats/b.png", "too much")]
    assert len(results(tree[2])) == 9


def test_a_second_run_paints_nothing(run_folder, tree, calls):
    run_folder(batch_size=2)
    files = [path for path in tree[2].rglob("*") if path.is_file()]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    assert len(before) == 13
    calls.clear()
    assert run_folder(workers=2, batch_size=8) == []
    assert calls == []
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before} == before


@pytest.mark.parametrize(
    "options",
    [{"alpha": 0.5}, {"size": 20}, {"style_size": 9}, {"color": "keep-luminance"}, {"photorealistic": True}],
    ids=str,
)
def test_other_settings_paint_again(run_folder, tree, calls, options):
    table = write_csv(tree[0].parent / "t.csv", "content,style", "a.png,x.png")
    run_folder(pairs=table)
    first = results(tree[2])
    run_folder(pairs=table, **options)
    assert results(tree[2]).keys() == first.keys()
    assert results(tree[2]) != first
    run_folder(pairs=table)
    assert results(tree[2]) == first, "an older line does not hold for a newer file"
    assert len(calls) == 3


def test_another_alpha_blend_paints_again_but_not_at_full_strength(run_folder, tree, calls):
    table = write_csv(tree[0].parent / "t.csv", "content,style,alpha", "a.png,x.png,0", "a.png,y.png,1")
    run_folder(pairs=table)
    assert (pixels(tree[2] / "a__x.png") == pixels(tree[0] / "a.png")).all()
    assert ["alpha_blend" in line for line in lines(tree[2])] == [True, False]
    calls.clear()
    run_folder(pairs=table, alpha_blend="features")
    assert calls == [1]
    assert lines(tree[2])[-1]["alpha_blend"] == "features"
    assert (pixels(tree[2] / "a__x.png") != pixels(tree[0] / "a.png")).any()
    with pytest.raises(ValueError, match="unknown alpha_blend none"):
        run_folder(pairs=table, alpha_blend="none")


def test_other_weights_paint_again(run_folder, tree, calls, lite):
    run_folder()
    calls.clear()
    other = preparation.prepare("adain-lite", "cpu", "fp32")
    other.out.bias.data += 0.5
    run_folder(method=other)
    assert sum(calls) == 12


def test_only_what_is_missing_damaged_or_changed_is_stylized_again(run_folder, tree, calls):
    run_folder()
    before = results(tree[2])
    (tree[2] / "a__x.png").unlink()
    (tree[2] / "a__y.png").write_bytes(before["a__y.png"][:100])
    (tree[2] / "a__z.png").write_bytes(bytes(len(before["a__z.png"])))
    calls.clear()
    run_folder()
    assert sum(calls) == 3
    assert_alike(tree[2], before)
    before = results(tree[2])
    picture(tree[0] / "cats/b.png", (32, 48), 55)
    os.utime(tree[0] / "cats/b.png", (1, 1))
    calls.clear()
    run_folder()
    assert sum(calls) == 3
    changed = {name for name, data in results(tree[2]).items() if data != before[name]}
    assert changed == {f"cats/b__{style}.png" for style in "xyz"}


def test_results_are_checked_by_size_and_time_or_by_their_hash(run_folder, tree, calls):
    assert run_folder() == []
    path = tree[2] / "a__x.png"
    original, stat = path.read_bytes(), path.stat()
    path.write_bytes(original)
    os.utime(path, (0, 0))
    calls.clear()
    assert run_folder() == []
    assert not calls, "a copy of another time has the same hash"
    path.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run_folder() == []
    assert not calls, "size and time are as recorded"
    assert run_folder(verify=True) == []
    assert sum(calls) == 1
    assert path.read_bytes() == original


KILLED = """
import os, signal, sys
from adain.batch import runner
from adain.imaging import writer
from adain.utils.files import atomic_path

whole = runner.Manifest.write
done = []

def write(self, job, photo, seconds):
    if len(done) == 5:
        writer.save(photo.pixels, self.path.parent / job.output)
        with self.path.open("a") as file:
            file.write('{"output": "half a li')
        with atomic_path(self.path.parent / "half.png") as temporary:
            temporary.write_bytes(b"half a picture")
            os.kill(os.getpid(), signal.SIGKILL)
    done.append(job)
    whole(self, job, photo, seconds)

runner.Manifest.write = write
runner.stylize_folder(*sys.argv[1:4], method="adain-lite", device="cpu", precision="fp32", workers=1, batch_size=2)
"""


@pytest.mark.slow
def test_a_run_that_was_killed_is_resumed(tree, tmp_path, calls):
    options = {"method": "adain-lite", "device": "cpu", "precision": "fp32", "workers": 0, "quiet": True}
    killed = subprocess.run([sys.executable, "-c", KILLED, *map(str, tree)], cwd=ROOT, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 6 <= len(results(tree[2])) <= 8
    own = tree[2] / ".backup-999999-01.png"
    own.write_bytes(b"a user's own hidden file")
    assert stylize_folder(*tree, batch_size=2, **options) == []
    assert sum(calls) == 12 - 5, "what had its line is not stylized again"
    own.unlink()  # which fails if the run deleted it
    assert stylize_folder(*tree[:2], tmp_path / "whole", batch_size=2, **options) == []
    assert_alike(tree[2], results(tmp_path / "whole"))
    calls.clear()
    stylize_folder(*tree, **options)
    assert calls == []


def test_results_are_no_contents(run_folder, tree, calls):
    inside = tree[0] / "results"
    for _ in range(2):
        assert run_folder(output=inside) == []
        assert sum(calls) == 12


def test_a_method_with_a_style_of_its_own(run_folder, tree):
    assert run_folder(method=preparation.prepare(Johnson(4, 1), "cpu"), style=None, pairs="random") == []
    assert results(tree[2]).keys() == {f"{name}__johnson.png" for name in SIZES}
    assert "style" not in lines(tree[2])[0]


def test_an_optimization_gets_the_seed(run_folder, tree):
    table = write_csv(tree[0].parent / "t.csv", "content,style", "a.png,x.png")
    found = []
    for seed in (0, 1):
        settings = {"method": "gatys", "steps": 1, "init": "noise", "style_weight": 25.0}
        assert run_folder(pairs=table, seed=seed, device="cpu", **settings) == []
        found.append(results(tree[2])["a__x.png"])
    assert found[0] != found[1]


def test_large_pictures_go_alone(run_folder, tree, calls, monkeypatch):
    run_folder()
    batched = results(tree[2])
    calls.clear()
    monkeypatch.setattr(folder_run, "BATCH_PIXELS", 1000)
    for module in (reading, runner):
        monkeypatch.setattr(module, "LARGE", 1300)
    assert run_folder(output=tree[2].with_name("alone"), workers=1) == []
    assert {*calls} == {1}
    assert_alike(tree[2].with_name("alone"), batched)
    assert reading._Contents([tree[0] / "cats/b.png"], reader.load)[0] is None, "not sent from process to process"


@pytest.mark.parametrize(("large", "most"), [(0, 0), (64, 4)])
def test_few_results_wait_to_be_written(large, most, monkeypatch):
    monkeypatch.setattr(runner, "LARGE", large)
    job, result = Job(Path("a.png"), None, 1.0), Photo(torch.zeros(1, 3, 8, 8))
    written, waiting = [], []

    class SlowManifest:
        def write(self, *arguments):
            time.sleep(0.01)
            written.append(arguments)

    def stylized():
        for number in range(12):
            waiting.append(number - len(written))
            yield folder_run.Stylized(job, result, number)

    runner._write(stylized(), SlowManifest(), threads=2)
    assert len(written) == 12
    assert max(waiting) <= most


def test_few_wait_for_others_of_their_size(monkeypatch):
    monkeypatch.setattr(folder_run, "BATCHES_WAITING", 2)
    read = []

    def units():
        for i in range(40):
            read.append(i)
            yield folder_run.Unit(Job(Path(str(i)), None, 1.0), Photo(torch.zeros(1, 3, 8, 8 + i % 20)), None)

    stylized = 0
    for batch in folder_run.batches(units(), 4):
        assert len(read) - stylized <= 8
        stylized += len(batch)
    assert stylized == 40


def test_transparency_is_kept_in_batches(run_folder, tree):
    image = Image.open(tree[0] / "a.png").convert("RGBA")
    image.putalpha(77)
    image.save(tree[0] / "a.png")
    assert run_folder() == []
    assert pixels(tree[2] / "a__x.png")[..., 3].max() == 77
    assert pixels(tree[2] / "dogs/b__x.png").shape == (32, 40, 3)


def test_progress_is_on_standard_error_in_a_terminal(run_folder, capfd, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run_folder(quiet=False)
    run_folder(quiet=False)
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "12/12" in shown.err
    assert "images/s" in shown.err
    run_folder()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)  # a pipe
    run_folder(quiet=False)
    assert capfd.readouterr() == ("", "")


def test_a_result_that_cannot_be_written_ends_the_run(run_folder, tree):
    tree[2].write_text("a file where the folder would be")
    with pytest.raises(OSError, match="out"):
        run_folder()


def unit(name="a", style=None, alpha=1.0, sides=(8, 8), dtype=torch.uint8):
    return folder_run.Unit(Job(Path(name), None, alpha), Photo(torch.zeros(1, 3, *sides, dtype=dtype)), style)


def grouped(units, batch_size):
    return [[one.job.content.name for one in batch] for batch in folder_run.batches(units, batch_size)]


def test_only_units_of_one_kind_share_a_batch():
    code, wide = {"mean": torch.zeros(1, 4, 1, 1)}, {"mean": torch.zeros(1, 9, 1, 1)}
    kinds = {
        "plain": {},
        "code": {"style": code},
        "wide": {"style": wide},
        "weak": {"alpha": 0.5},
        "tall": {"sides": (9, 8)},
        "deep": {"dtype": torch.uint16},
    }
    units = [unit(name, **options) for _ in range(2) for name, options in kinds.items()]
    assert grouped(units, 2) == [[name, name] for name in kinds]
    assert grouped(units, 3) == [[name, name] for name in kinds], "what is left comes last, in order"
    assert grouped([unit("a"), unit("b"), unit("c")], 2) == [["a", "b"], ["c"]]


def test_styles_that_are_encoded_for_their_content_go_alone():
    assert grouped([unit("a", Path("s.png")), unit("b", Path("s.png"))], 4) == [["a"], ["b"]]


def test_a_batch_has_no_more_pixels_than_its_limit(monkeypatch):
    monkeypatch.setattr(folder_run, "BATCH_PIXELS", 3 * 64)
    units = [unit(str(i)) for i in range(4)]
    assert grouped(units, 8) == [["0", "1", "2"], ["3"]]
    assert grouped(units, 2) == [["0", "1"], ["2", "3"]]
    monkeypatch.setattr(folder_run, "BATCH_PIXELS", 10)
    assert grouped(units, 8) == [["0"], ["1"], ["2"], ["3"]]


def test_the_oldest_go_first_when_too_many_wait(monkeypatch):
    monkeypatch.setattr(folder_run, "BATCHES_WAITING", 2)
    units = [unit(str(i), sides=(8, 8 + i % 3)) for i in range(5)]
    assert grouped(units, 2) == [["0", "3"], ["1", "4"], ["2"]]
    units = [unit(str(i), sides=(8, 8 + i)) for i in range(5)]
    assert grouped(units, 2) == [["0"], ["1"], ["2"], ["3"], ["4"]]
    drawn = []
    list_of = (drawn.append(one.job.content.name) or one for one in units)
    next(folder_run.batches(list_of, 2))
    assert drawn == ["0", "1", "2", "3"], "two batches' worth wait"


def test_the_time_of_a_batch_is_shared_by_its_images(run_folder, tree, monkeypatch):
    monkeypatch.setattr(folder_run.time, "perf_counter", iter(range(0, 600, 6)).__next__)
    table = write_csv(
        tree[0].parent / "t.csv", "content,style", *(f"{name}.png,x.png" for name in ("a", "cats/c", "dogs/b"))
    )
    assert run_folder(pairs=table) == []
    assert [line["seconds"] for line in lines(tree[2])] == [2, 2, 2]


def test_the_settings_that_are_recorded(run_folder, tree, lite):
    table = write_csv(tree[0].parent / "t.csv", "content,style", "a.png,x.png")
    recorded = []
    for options in ({}, {"size": 20, "style_size": 9}, {"size": full_size.LARGEST_CONTENT + 1, "work_size": 64}):
        assert run_folder(pairs=table, **options) == []
        line = lines(tree[2])[-1]
        recorded.append([line[name] for name in ("size", "style_size", "work_size")])
    assert recorded == [[None, None, None], [20, 9, "content"], [full_size.LARGEST_CONTENT + 1, None, 64]]
    assert line["method"] == "AdaINLite"
    assert line["precision"] == "torch.float32", "of a method that is handed over"
    assert run_folder(pairs=table, output=tree[2].with_name("named"), method="adain-lite", device="cpu") == []
    assert lines(tree[2].with_name("named"))[0]["precision"] == "auto"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": StyleOptions(style_weight=[1])}, "Expected neither masks nor regions nor style weights"),
        ({"options": StyleOptions(regions=2)}, "Expected neither masks nor regions nor style weights"),
        ({"options": StyleOptions(mask="mask.png")}, "Expected neither masks nor regions nor style weights"),
        ({"method": Johnson(4, 1), "style": None, "style_size": 9}, "Johnson takes no styles and no style_size"),
        ({"alpha": [0.5, 1]}, "Expected one alpha for a folder, got 2"),
    ],
    ids=str,
)
def test_options_for_single_images_are_refused(run_folder, tree, options, message):
    with pytest.raises(ValueError, match=message):
        run_folder(**options)
    assert not tree[2].exists()
