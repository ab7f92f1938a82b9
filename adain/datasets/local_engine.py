"""The local engine: processes of this computer make units."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from adain.batch.ranks import Rank
from adain.datasets.samples import Unit
from adain.datasets.unit_run import Status, Statuses, UnitRun
from adain.inference.preparation import find_device
from adain.utils import memory


def local_devices(device: str, rank: Rank) -> list[str]:
    """Return the devices that the processes of this rank take in turn: all GPUs, or one of them for each rank."""
    found = find_device(device)
    if found.type != "cuda" or device not in ("auto", "cuda"):
        return [str(found) if found.type == "cuda" else found.type]
    count = torch.cuda.device_count()
    if rank.count > 1:
        return [f"cuda:{rank.local % count}"]
    return [f"cuda:{number}" for number in range(count)]


def default_workers(devices: Sequence[str], rank: Rank) -> int:
    """Return the number of processes: one for each GPU, or for each core; one if there are several ranks."""
    if rank.count > 1:
        return 1
    if devices != ["cpu"]:
        return len(devices)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_locally(run: UnitRun, units: Sequence[Unit], workers: int, devices: Sequence[str]) -> Statuses:
    """Make units in processes, and yield the status of each as it is made.

    Args:
        run: Makes a unit.
        units: The units.
        workers: Number of processes; with one, this process makes the units.
        devices: Devices that the processes take in turn.

    Raises:
        OSError: A process was killed.
    """
    workers = min(workers, len(units))
    if workers <= 1:
        for unit in units:
            yield run(unit, devices[0])
        return
    # A forked process would lack the threads of libvips, and could not use a GPU.
    context = multiprocessing.get_context("spawn")
    numbers = context.SimpleQueue()
    for number in range(workers):
        numbers.put(number)
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(workers, context, _start, (run, numbers, devices))
    try:
        futures = [pool.submit(_make, unit) for unit in units]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool as error:
        raise OSError(
            "a process that stylizes was killed, perhaps for lack of memory; repeat the command to resume, "
            "with fewer --workers"
        ) from error
    except BaseException:
        # The units that are being made would take a while, and are made again in the next run.
        for process in set(multiprocessing.active_children()) - {*others}:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_process: dict[str, Any] = {}
"""What a process of the pool was started with."""


def _start(run: UnitRun, numbers: Any, devices: Sequence[str]) -> None:
    """Initialize a process of the pool."""
    memory.keep_freed()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    number = numbers.get()
    _process.update(run=run, device=devices[number % len(devices)])
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent was killed: it would wait for work forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _make(unit: Unit) -> Status:
    return _process["run"](unit, _process["device"])
