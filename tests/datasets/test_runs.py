"""Runs: equal bytes for any number of processes and ranks, after faults, and what is reported."""

import io
import json
import os
import re
import signal
import subprocess
import sys

import datasets
import pyarrow.parquet as pq
import pytest
import torch

from adain.batch.ranks import Rank, rank_of
from adain.datasets import local_engine, network, unit_run
from adain.datasets.local_engine import default_workers, local_devices
from adain.datasets.options import EngineOptions
from adain.datasets.records import check_options
from tests.conftest import ROOT, exit_code, picture, wait_for
from tests.datasets.conftest import COUNT, contents, encoded, rows, write_shard
from tests.hub import Hub

QUIET = EngineOptions(workers=1, quiet=True)
KINDS = ("folder", "parquet", "webdataset")


@pytest.fixture
def whole(photos, run, tmp_path):
    """The results of a run in one process without faults, by kind."""
    found = {}
    for kind in KINDS:
        run(photos, tmp_path / "whole" / kind, format=kind)
        found[kind] = contents(tmp_path / "whole" / kind)
    return found


def command(photos, output, *more):
    words = ["stylize-dataset", "--content", photos, "--output", output, "--shard-size", "2", "--device", "cpu"]
    return [*map(str, words), "--precision", "fp32", *map(str, more)]


# Each worker imports torch anew.
@pytest.mark.parametrize("workers", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_processes_write_equal_bytes(photos, run, whole, tmp_path, workers):
    report = run(photos, tmp_path / "out", engine_options=EngineOptions(workers=workers, quiet=True))
    assert report.made == COUNT
    assert contents(tmp_path / "out") == whole["folder"]


@pytest.mark.parametrize("names", [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")])
@pytest.mark.parametrize("count", [2, 3])
def test_ranks_write_equal_bytes(photos, run, whole, tmp_path, monkeypatch, names, count):
    kind = KINDS[count - 1]
    made = []
    for rank in reversed(range(count)):
        monkeypatch.setenv(names[0], str(rank))
        monkeypatch.setenv(names[1], str(count))
        made.append(run(photos, tmp_path / "out", format=kind).made)
    assert sum(made) == COUNT
    assert max(made) < COUNT
    assert contents(tmp_path / "out") == whole[kind]


def test_ranks_of_launchers():
    assert rank_of({}) == Rank(0, 1, 0)
    assert rank_of({"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1"}) == Rank(5, 8, 1)
    torchrun = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
    assert rank_of(torchrun) == Rank(1, 2, 1), "torchrun may have been started by srun"
    for wrong in ("2", "-1", "x"):
        with pytest.raises(ValueError, match=f"Expected RANK from 0 to WORLD_SIZE - 1, got {wrong} and 2; start"):
            rank_of({"RANK": wrong, "WORLD_SIZE": "2"})


def test_devices_and_workers(monkeypatch):
    assert local_devices("cpu", Rank()) == ["cpu"]
    assert default_workers(["cpu"], Rank(1, 4)) == 1
    assert default_workers(["cuda:0", "cuda:1"], Rank()) == 2
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1, 4, 5}, raising=False)
    assert default_workers(["cpu"], Rank()) == 3
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS and Windows
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert default_workers(["cpu"], Rank()) == 6


def test_ranks_share_the_gpus_of_their_machine(monkeypatch):
    monkeypatch.setattr(local_engine, "find_device", torch.device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert local_devices("cuda", Rank()) == ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]
    assert local_devices("cuda", Rank(5, 8, 1)) == ["cuda:1"]
    assert local_devices("cuda:2", Rank()) == ["cuda:2"]


KILLED = """
import os, signal, sys
from adain.cli import main
from adain.datasets import records

add = records.Records.add

def killed(self, status):
    add(self, status)
    if len(self.statuses) == 2:
        os.kill(os.getpid(), signal.SIGKILL)

records.Records.add = killed
for kind in ("folder", "parquet", "webdataset"):  # each in a child, because imports take most of the time
    child = os.fork()
    if not child:
        main.main([*sys.argv[2:], "--output", f"{sys.argv[1]}/{kind}", "--format", kind])
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


def test_runs_that_were_killed_are_resumed(photos, run, whole, tmp_path):
    """A process is killed when its second unit is recorded, by which time it may have started the third."""
    words = [sys.executable, "-c", KILLED, tmp_path, *command(photos, tmp_path)[:3], *command(photos, tmp_path)[5:]]
    killed = subprocess.run(
        [*map(str, words), "--workers", "1"], cwd=ROOT, capture_output=True, timeout=240, check=False
    )
    assert killed.returncode == 0, killed.stderr
    for kind in KINDS:
        output = tmp_path / kind
        assert len((output / ".manifest.jsonl").read_text().splitlines()) == 2
        with (output / ".manifest.jsonl").open("a") as manifest:
            manifest.write('{"unit": "half a li')
        stale = output / f".adain-{re.sub(r'[^0-9A-Za-z_]', '_', os.uname().nodename)}-999999999-1.png"
        stale.touch()
        assert 0 < len(contents(output)) < len(whole[kind])
        report = run(photos, output, format=kind)
        assert (report.results, report.made) == (COUNT, COUNT - 4)
        assert contents(output) == whole[kind]
        assert not stale.exists()
        assert run(photos, output, format=kind).made == 0


@pytest.mark.slow
def test_workers_end_when_their_parent_is_killed(photos, run, whole, tmp_path):
    import psutil

    output = tmp_path / "out"
    script = f"""
import time
from adain.cli import main
from adain.datasets import unit_run
made = unit_run.UnitRun.__call__
def first_unit_only(self, unit, device):  # the workers import this file, too
    if not unit.name.startswith("train-00000"):
        time.sleep(600)
    return made(self, unit, device)
unit_run.UnitRun.__call__ = first_unit_only
if __name__ == "__main__":
    main.main({command(photos, output, "--workers", "2")!r})
"""
    (tmp_path / "run.py").write_text(script)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, tmp_path / "run.py"], env=environment, stderr=subprocess.PIPE)
    workers = wait_for(lambda: len(found := psutil.Process(process.pid).children()) >= 3 and found, process)
    wait_for(lambda: (output / ".manifest.jsonl").exists() and (output / ".manifest.jsonl").stat().st_size, process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it had ended before"
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    run(photos, output)
    assert contents(output) == whole["folder"]


def test_files_that_were_deleted_or_changed_are_made_again(photos, run, whole, tmp_path):
    run(photos, tmp_path / "out")
    names = [*whole["folder"]]
    (tmp_path / "out" / names[0]).unlink()
    os.truncate(tmp_path / "out" / names[2], 10)
    data = bytearray(whole["folder"][names[-1]])
    data[-1] ^= 1
    (tmp_path / "out" / names[-1]).write_bytes(data)
    assert run(photos, tmp_path / "out").made == 4, "a unit has two images"
    verified = run(photos, tmp_path / "out", engine_options=EngineOptions(workers=1, verify=True, quiet=True))
    assert verified.made == 1
    assert contents(tmp_path / "out") == whole["folder"]


def test_a_run_with_other_options_is_refused(photos, run, tmp_path, capsys):
    run(photos, tmp_path / "out")
    before = contents(tmp_path / "out")
    other = tmp_path / "other"
    check_options(other, {"key": "id"})
    base = command(photos, tmp_path / "out", "--quiet", "--workers", "1")
    for flags, message in (
        (["--alpha", "0.5", "1"], "Expected --alpha 1.0 1.0 as in the first run in "),
        (["--batch-size", "1"], "Expected --batch-size 8 as in the first run in "),
        (["--crop", "32"], "Expected --crop none as in the first run in "),
        (["--method", "adain"], "Expected styles for adain, which has no embedded bank"),
        (["--format", "parquet"], "Expected --format folder as in the first run in "),
        (["--shard-size", "3"], "Expected the files and the options of the source as in the first run in "),
    ):
        assert exit_code(*base, *flags) == 2, flags
        errors = capsys.readouterr().err
        assert errors.count("\n") == 1
        assert message in errors, errors
    with pytest.raises(ValueError, match=r"Expected --key id as in the first run in .*, got none; repeat it"):
        check_options(other, {"key": None})
    picture(photos / "cat" / "new.png", (40, 36), 50)
    assert exit_code(*base) == 2
    assert contents(tmp_path / "out") == before


def test_wrong_inputs_are_refused_in_one_line(photos, shards, table, tmp_path, capsys):
    table.save_to_disk(tmp_path / "saved")
    (tmp_path / "text.parquet").write_text("no parquet")
    (tmp_path / "empty").mkdir()
    write_shard(tmp_path / "empty.tar", [])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    datasets.Dataset.from_list([{"text": "a"}]).to_parquet(tmp_path / "words.parquet")
    out = ["--output", tmp_path / "out"]
    capsys.readouterr()
    for words, message in (
        (["--content", tmp_path / "missing", *out], "dataset on the Hugging Face Hub, got"),
        (
            ["--content", "nobody/nothing", *out],
            "Hugging Face Hub, got nobody/nothing (no such folder or file, and none found on the Hub: ",
        ),
        (["--content", "a\\b", *out], "dataset on the Hugging Face Hub, got a\\b (no such folder or file)"),
        (["--content", "nobody/b.arrow", *out], "got nobody/b.arrow (no such folder or file)"),
        (["--content", tmp_path / "empty", *out], "Expected images in"),
        (["--content", tmp_path / "empty.tar", *out], "got an empty tar file"),
        (["--content", tmp_path / "no.tar", *out], "no such file"),
        (["--content", tmp_path / "text.parquet", *out], "is not a readable parquet file"),
        (["--content", tmp_path / "words.parquet", *out], "Expected one column of images, got 0; choose one of text"),
        (["--content", tmp_path / "saved", *out, "--column", "label"], "Expected a column of images as --column"),
        (["--content", tmp_path / "saved", *out, "--key", "none"], "as --key, got none"),
        (["--content", tmp_path / "saved", *out, "--split", "test"], "Expected one of the splits train of"),
        (["--content", photos, *out, "--key", "id"], "Expected no --key for a folder of images; leave it out"),
        (["--content", shards, *out, "--streaming"], "Expected no --streaming for tar shards; leave it out"),
        (["--content", photos, "--output", photos / "out"], "Expected an output outside of"),
        (["--content", photos, "--output", tmp_path / "full"], "Expected a new folder, or that of an interrupted run"),
        (["--content", photos, *out, "--alpha", "1", "0.5"], "Expected one alpha, or the lowest and the highest, got"),
        (["--content", photos, *out, "--alpha", "2"], "must be between 0 (the content) and 1 (the style), got 2"),
        (["--content", photos, *out, "--p", "2"], "p must be between 0 and 1, got 2"),
        (["--content", photos, *out, "--per-content", "0"], "--per-content must be at least 1 result, got 0"),
        (["--content", photos, *out, "--size", "32", "--crop", "64"], "--crop must be at most size, 32 pixels, got 64"),
        (["--content", photos, *out, "--suffix", ".gif"], "Expected a name that ends in one of"),
        (["--content", photos, *out, "--workers", "0"], "--workers must be at least 1, got 0"),
        (["--content", photos, *out, "--address", "auto"], "Expected --engine ray with --address, got local"),
        (["--content", photos, *out, "--method", "gatys"], "Expected a method that was trained for any style"),
        (["--content", photos, *out, "--style", tmp_path / "empty"], "Expected images in"),
        (["--content", photos, *out, "--device", "abc"], "device abc cannot be used here"),
        (["--content", photos, *out, "--engine", "spark"], "Expected --engine to be local or ray, got spark"),
    ):
        assert exit_code("stylize-dataset", *words) == 2, words
        errors = capsys.readouterr().err
        assert errors.count("\n") == 1, errors
        assert message in errors, errors
    assert not [path for path in (tmp_path / "out").rglob("*") if not path.name.startswith(".")]


def test_broken_images_are_listed(photos, run, tmp_path, capsys):
    broken = photos / "cat" / "a.jpg"
    broken.write_bytes(encoded(1, "JPEG")[:300])
    words = command(photos, tmp_path / "out", "--workers", "1", "--report", tmp_path / "report.json")
    assert exit_code(*words) == 1
    output = capsys.readouterr()
    assert f"{tmp_path / 'out'}: {COUNT} results (" in output.out
    assert output.out.endswith(" per second); 1 failed\n")
    (line,) = [line for line in output.err.splitlines() if line.startswith("adain: ")]
    assert line.startswith(f"adain: error: {broken} is not a readable image")
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["results"], report["made"], len(report["failures"])) == (COUNT, COUNT, 1)
    picture(broken, (40, 36), 5)
    assert exit_code(*words, "--quiet") == 1, "complete units are not made again"
    assert exit_code(*words, "--quiet", "--retry") == 0
    assert (tmp_path / "out" / "cat" / "a.jpg").exists()
    for path in photos.rglob("*.*"):
        path.write_bytes(b"broken")
    assert exit_code(*command(photos, tmp_path / "none", "--workers", "1", "--quiet")) == 2, "nothing could be read"


def test_broken_rows_members_and_shards_are_listed(shards, run, tmp_path):
    table = rows()
    table[1]["image"] = None
    table[2]["image"]["bytes"] = b"no image"
    plain = [{"image": row["image"], "label": row["label"]} for row in table]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    datasets.Dataset.from_list(plain, features=features).to_parquet(tmp_path / "in.parquet")
    report = run(tmp_path / "in.parquet", tmp_path / "table", shard_size=4)
    assert report.results == COUNT - 2
    assert [failure.partition(":")[0] for failure in report.failures] == ["in-00000, /1", "in-00000, /2"]
    labels = []
    for path in sorted((tmp_path / "table").glob("*.parquet")):
        labels += pq.read_table(path)["label"].to_pylist()
    assert labels == [0, *(row["label"] for row in table[3:])]

    data = (shards / "train-001.tar").read_bytes()
    (shards / "train-001.tar").write_bytes(data[: len(data) // 3])
    write_shard(shards / "train-002.tar", [("a.txt", b"no image"), ("b.png", encoded(1))])
    report = run(shards, tmp_path / "out")
    assert report.results == 3
    assert [failure.partition(":")[0] for failure in report.failures] == ["train-001", "train-002, a"]
    assert "is not a readable tar file" in report.failures[0]
    assert [*contents(tmp_path / "out")] == ["train-000.tar", "train-002.tar"]
    assert (report.units, report.complete) == (3, 2), "the shard is not recorded as complete"


def test_a_full_disk_ends_the_run_and_the_next_one_completes_it(photos, run, whole, tmp_path, monkeypatch):
    from adain.datasets import targets

    calls = []
    atomic_path = targets.atomic_path

    def full(path):
        calls.append(path)
        if len(calls) == 4:
            raise OSError("cannot write it (No space left on device)")
        return atomic_path(path)

    with monkeypatch.context() as patch:
        patch.setattr(targets, "atomic_path", full)
        with pytest.raises(OSError, match="No space left on device"):
            run(photos, tmp_path / "out")
    assert contents(tmp_path / "out").items() < whole["folder"].items()
    run(photos, tmp_path / "out")
    assert contents(tmp_path / "out") == whole["folder"]


def test_a_batch_without_memory_is_stylized_one_by_one(photos, run, tmp_path, monkeypatch):
    stylize_batch = network.stylize_batch
    sizes = []

    def limited(method, images, *args, **options):
        sizes.append(len(images))
        if len(images) > 1 or images.shape[-1] == 41:
            raise RuntimeError("CUDA out of memory")
        return stylize_batch(method, images, *args, **options)

    monkeypatch.setattr(network, "stylize_batch", limited)
    report = run(photos, tmp_path / "out", shard_size=100)
    assert sorted(sizes) == [1] * COUNT + [3, 4]
    assert (report.results, len(report.failures)) == (4, 3)
    assert all("out of memory" in failure for failure in report.failures)


def test_images_of_one_size_share_batches_and_keep_their_order(photos, run, tmp_path, monkeypatch):
    """Cats are 40 pixels wide and dogs 41: their batches alternate in the folder's order."""
    sizes = []
    stylize_batch = network.stylize_batch

    def counted(method, images, *args, **options):
        sizes.append(tuple(images.shape[::3]))
        return stylize_batch(method, images, *args, **options)

    monkeypatch.setattr(network, "stylize_batch", counted)
    run(photos, tmp_path / "out", shard_size=100, batch_size=3, format="parquet")
    assert sizes == [(3, 40), (1, 40), (3, 41)]
    (path,) = (tmp_path / "out").glob("*.parquet")
    paths = [row["image"]["path"] for row in pq.read_table(path).to_pylist()]
    assert paths == sorted(contents(photos))


def test_other_threads_compute_the_same(photos, run, whole, tmp_path, monkeypatch):
    """Threads decode and encode where a GPU stylizes."""
    monkeypatch.setattr(unit_run, "threads_for", lambda device: 4)
    run(photos, tmp_path / "out")
    assert contents(tmp_path / "out") == whole["folder"]


def test_data_sets_from_the_hub(table, tmp_path):
    """Whole and as a stream, with keys from a column, results are equal."""
    files = {"README.md": b"# Detections"}
    for number, part in enumerate((range(4), range(4, COUNT))):
        file = io.BytesIO()
        table.select(part).to_parquet(file)
        files[f"data/train-{number:05}-of-00002.parquet"] = file.getvalue()
    script = """
import sys
from adain.cli.main import main
words = "--content someone/detections --key image_id --batch-size 1 --device cpu --precision fp32 --workers 1 --quiet"
for name, flags in (("whole", []), ("stream", ["--streaming", "--split", "train"])):
    output = ["--output", f"{sys.argv[1]}/{name}"]
    assert main(["stylize-dataset", *words.split(), *output, *flags]) == 0
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    with Hub({"someone/detections": files}) as hub:
        environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        process = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, env=environment, capture_output=True, timeout=240
        )
    assert process.returncode == 0, process.stderr.decode()
    found = {}
    for name in ("whole", "stream"):
        paths = sorted((tmp_path / name).glob("*.parquet"))
        found[name] = [row for path in paths for row in pq.read_table(path).to_pylist()]
        assert [path.name for path in paths] == (
            ["train-00000-of-00001.parquet"]
            if name == "whole"
            else ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]
        )
    assert found["whole"] == found["stream"]
    assert [row["image_id"] for row in found["whole"]] == [row["image_id"] for row in rows()]
