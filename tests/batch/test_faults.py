"""Faults in folder runs: nothing is lost, nothing is made twice, and no final name has part of a file."""

import json
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from adain.batch import folder_run, locking, reading
from adain.batch.manifest import Manifest
from adain.batch.runner import stylize_folder
from adain.imaging import writer
from adain.imaging.options import DEFAULT_READ_OPTIONS
from adain.inference import pipeline
from tests.conftest import ROOT, SIZES, picture, wait_for

EVERY = {f"{name}__{style}.png" for name in SIZES for style in "xyz"}

OPTIONS = {"workers": 0, "batch_size": 1, "quiet": True}


@pytest.fixture
def run(tree, lite):
    """Run on the folders of `tree`, in this process."""
    return lambda **options: stylize_folder(*tree, method=lite, **{**OPTIONS, **options})


@pytest.fixture
def whole(tree, lite, tmp_path):
    """The results of a run without faults, by name."""
    assert stylize_folder(*tree[:2], tmp_path / "whole", method=lite, **OPTIONS) == []
    return results(tmp_path / "whole")


def results(output):
    """All files in an output folder with their bytes, except manifests."""
    files = [path for path in output.rglob("*") if path.is_file() and path.suffix != ".jsonl"]
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}


def recorded(output):
    return [json.loads(line)["output"] for line in (output / "manifest.jsonl").read_text().splitlines()]


def command(tree, *more):
    words = ["--content", tree[0], "--style", tree[1], "--output", tree[2], "--method", "adain-lite", "--device", "cpu"]
    return [sys.executable, "infer.py", *map(str, (*words, "--quiet", "--workers", "0", *more))]


LIMITED = """
import resource, sys
from adain.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(["stylize", *sys.argv[4:]]))
"""


# Bytes: of part of a result, and of part of the manifest.
@pytest.mark.parametrize("limit", [1000, pytest.param(3000, marks=pytest.mark.slow)])
def test_a_full_disk_ends_the_run_and_the_next_one_completes_it(tree, whole, run, limit):
    words = command(tree)
    process = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert process.returncode == 2, process.stderr
    assert len(process.stderr.splitlines()) == 1, process.stderr
    for name, data in results(tree[2]).items():
        assert data == whole[name], "a complete result, or none"
    assert run() == []
    assert results(tree[2]) == whole


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="no file system here that is read-only even for root")
def test_a_folder_that_cannot_be_written_is_named(tree, lite):
    with pytest.raises(OSError, match=r"^cannot write /sys/adain/manifest.jsonl \(.+\); choose another output$"):
        stylize_folder(*tree[:2], "/sys/adain", method=lite, **OPTIONS)


def test_files_that_vanish_or_change_while_the_run_reads(tree, run, monkeypatch):
    content, style, output = tree
    unchanged = Manifest.missing
    late = content / "late.png"
    picture(late, (40, 32), 5)

    def missing(self, jobs):
        found = unchanged(self, jobs)
        (content / "cats/b.png").unlink()
        (style / "z.png").unlink()
        (content / "dogs/b.png").write_bytes((content / "dogs/b.png").read_bytes()[:100])
        picture(content / "a.png", (44, 36), 77)
        os.utime(content / "a.png", (1, 1))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "missing", missing)
        failures = dict(run())
    assert failures.keys() == {content / "cats/b.png", content / "dogs/b.png", style / "z.png"}
    assert failures[content / "cats/b.png"] == failures[style / "z.png"] == "no such file"
    assert results(output).keys() == {f"{name}__{style}.png" for name in ("a", "late", "cats/c") for style in "xy"}
    calls = []
    stylize = pipeline.stylize
    monkeypatch.setattr(pipeline, "stylize", lambda *args, **kwargs: calls.append(1) or stylize(*args, **kwargs))
    run()
    assert len(calls) == 2, "a.png changed after the run recorded it"


KILLED = """
import os, random, signal, sys, threading
from pathlib import Path
import torch
from adain.batch import runner
from adain.inference import preparation

torch.set_num_threads(1)
method = preparation.prepare("adain-lite", "cpu", "fp32")
WATCHED = ("adain/batch/", "adain/utils/files.py", "adain/imaging/writer.py")


def run(content, style, output, moment):
    # Run in a child; at that line of the code that writes, of all its threads, the system kills it.
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    count = 0

    def trace(frame, event, _):
        nonlocal count
        if not any(name in frame.f_code.co_filename for name in WATCHED):
            return None
        if event == "line":
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    threading.settrace(trace)
    sys.settrace(trace)
    runner.stylize_folder(content, style, output, method=method, workers=0, batch_size=1, quiet=True)
    sys.settrace(None)
    Path(output + ".lines").write_text(str(count))
    os._exit(0)


content, style, folder = sys.argv[1:4]
assert run(content, style, folder + "/whole", 0) == 0
lines = int(Path(folder + "/whole.lines").read_text())
chance = random.Random(0)
for kill in range(int(sys.argv[4])):
    for moment in (chance.randrange(1, lines), chance.randrange(1, lines)):  # the run that resumes is killed, too
        assert run(content, style, f"{folder}/{kill}", moment) in (-signal.SIGKILL, 0)
    assert run(content, style, f"{folder}/{kill}", 0) == 0
print(lines)
"""


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_runs_that_are_killed_at_random_lines_are_resumed_to_equal_bytes(tree, tmp_path, kills):
    """Each of `kills` runs is killed twice."""
    words = [*map(str, tree[:2]), str(tmp_path / "runs"), str(kills)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, "-c", KILLED, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) > 500, "lines at which a run may be killed"
    whole = results(tmp_path / "runs" / "whole")
    assert whole.keys() == EVERY
    for kill in range(kills):
        output = tmp_path / "runs" / str(kill)
        assert results(output) == whole
        lines = [line for line in (output / "manifest.jsonl").read_text().splitlines() if line.endswith("}")]
        assert sorted(json.loads(line)["output"] for line in lines) == sorted(EVERY), "each is recorded once"


STOPS = """
import sys, time
from adain.batch.folder_run import FolderRun
from adain.cli.main import main
stylize, done = FolderRun._stylize, []
def stop_after_five(self, batch):
    if len(done) == 5:
        time.sleep(600)  # in the main thread, which the signal interrupts
    done.append(batch)
    return stylize(self, batch)
FolderRun._stylize = stop_after_five
sys.exit(main(["stylize", *sys.argv[1:]]))
"""


def test_sigterm_ends_the_command_without_partial_files(tree, whole, run):
    for i in range(15):
        picture(tree[0] / f"more/{i}.png", (24, 24), i)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", STOPS, *command(tree)[2:]], cwd=ROOT, text=True, **pipes)
    wait_for(lambda: list(tree[2].rglob("*.png")), process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (143, "adain: terminated\n")
    found = results(tree[2])
    assert set(found) < EVERY | {f"more/{i}__{style}.png" for i in range(15) for style in "xyz"}
    for path in tree[2].rglob("*.png"):
        with Image.open(path) as image:
            image.load()
    assert run() == []
    assert len(results(tree[2])) == 12 + 45


HOLDS = """
import sys, time
from pathlib import Path
from adain.batch.locking import locked
with locked(Path(sys.argv[1]), "manifest*.jsonl"):
    print("locked", flush=True)
    sys.stdin.read()
"""


def hold(path):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", HOLDS, str(path)], cwd=ROOT, **pipes)
    assert process.stdout.readline() == b"locked\n"
    return process


def test_two_runs_do_not_write_to_one_folder(tree, run, monkeypatch):
    other = hold(tree[2] / "manifest.jsonl")
    with pytest.raises(OSError, match=rf"^another run writes to {tree[2]}; wait for its end, or choose another"):
        run()
    for name, value in {"WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(OSError, match="another run writes"):
        run()
    other.kill()  # the lock does not outlive its process
    other.communicate()
    assert run() == []
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    other = hold(tree[2] / "manifest-0.jsonl")
    with pytest.raises(OSError, match="another run writes"):
        run()
    other.communicate()
    assert run() == []
    assert results(tree[2]).keys() == EVERY


@pytest.mark.skipif(locking.fcntl is None, reason="expected a system with locks")
def test_a_manifest_that_another_run_replaces_is_opened_again(tmp_path, monkeypatch):
    path, lock = tmp_path / "manifest.jsonl", locking._lock

    def replaced_before_it_is_locked(file, path):
        monkeypatch.undo()
        path.unlink()
        path.touch()
        lock(file, path)

    monkeypatch.setattr(locking, "_lock", replaced_before_it_is_locked)
    expected = pytest.raises(OSError, match="another run writes")
    with locking.locked(path, "none"), expected, locking.locked(path, "none"):
        pass


def test_processes_of_one_run_share_a_folder(tree, lite, monkeypatch):
    other = hold(tree[2] / "manifest-0.jsonl")
    for name, value in {"WORLD_SIZE": "2", "RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    assert stylize_folder(*tree, method=lite, **OPTIONS) == []
    other.communicate()
    assert len(results(tree[2])) == 6


def test_an_accelerator_without_memory_gets_one_image_at_a_time(tree, whole, run, monkeypatch):
    stylize = pipeline.stylize

    def small(content, *args, **kwargs):
        if len(content.pixels) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return stylize(content, *args, **kwargs)

    monkeypatch.setattr(pipeline, "stylize", small)
    assert run(batch_size=4) == []
    assert results(tree[2]) == whole


def test_an_image_that_an_accelerator_has_no_memory_for_is_named(tree, run, monkeypatch):
    stylize = pipeline.stylize

    def small(content, *args, **kwargs):
        if content.pixels.shape[2] > 40:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return stylize(content, *args, **kwargs)

    monkeypatch.setattr(pipeline, "stylize", small)
    ((path, reason),) = run(batch_size=4)
    assert path == tree[0] / "cats/b.png"
    assert reason.startswith("out of memory; a smaller --size")
    assert len(results(tree[2])) == 9


class Fatal:
    """Reads images; the system kills the process that reads b.png, unless it is the one that made this."""

    def __init__(self):
        self.process = os.getpid()

    def __call__(self, path):
        if path.name == "b.png" and os.getpid() != self.process:
            os.kill(os.getpid(), signal.SIGKILL)
        return reading.read_content(path, None, DEFAULT_READ_OPTIONS)


@pytest.mark.timeout(120)
def test_the_rest_is_read_in_this_process_if_a_worker_is_killed(tree, whole, lite, monkeypatch, caplog):
    unchanged = folder_run.read_in_advance
    monkeypatch.setattr(folder_run, "read_in_advance", lambda paths, read, workers: unchanged(paths, Fatal(), workers))
    handler = signal.getsignal(signal.SIGCHLD)
    with caplog.at_level(logging.WARNING, "adain"):
        assert stylize_folder(*tree, method=lite, **{**OPTIONS, "workers": 1}) == []
    assert "A process that reads images ended" in caplog.text
    assert results(tree[2]) == whole
    assert signal.getsignal(signal.SIGCHLD) is handler


def test_the_signal_handler_is_restored_if_the_workers_do_not_start():
    handler = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(OSError, match="no more processes"), reading._child_signal_unchanged():
        signal.signal(signal.SIGCHLD, lambda *_: None)
        raise OSError("no more processes")
    found = signal.signal(signal.SIGCHLD, handler)
    assert found is handler


def test_a_result_that_cannot_be_replaced_stays(tree, run, whole, monkeypatch):
    assert run() == []

    def broken(*_, **__):
        raise OSError("cannot write")

    monkeypatch.setattr(writer, "_write", broken)
    with pytest.raises(OSError, match="cannot write"):
        run(alpha=0.5)
    assert results(tree[2]) == whole
