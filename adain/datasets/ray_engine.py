"""The engine Ray: actors on the nodes of a cluster make units.

Ray only schedules. Units write their files themselves, because a node that is lost makes Ray repeat its units: the
files of a unit are then replaced by equal ones. The output folder must be one that all nodes share.
"""

import json
import logging
import pickle
import socket
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from adain.datasets.samples import Unit
from adain.datasets.unit_run import Status, Statuses, UnitRun
from adain.utils.errors import first_line
from adain.utils.extras import require_extra

CONNECT_SECONDS = 10
"""Time to wait for a cluster to accept a connection."""


def run_on_ray(run: UnitRun, units: Sequence[Unit], workers: int | None, device: str, address: str | None) -> Statuses:
    """Make units on a cluster, and yield the status of each once, as it is made.

    Args:
        run: Makes a unit. It is sent to the nodes, where this package must be installed.
        units: The units.
        workers: Most actors at a time; None for one on each GPU, or on each core.
        device: Device of the actors; `auto` for GPUs if the cluster has any.
        address: Address of the cluster; None to start one on this computer, unless `RAY_ADDRESS` is set.

    Raises:
        ValueError: Ray is not installed.
        OSError: There is no cluster at the address, or it cannot complete the work.
    """
    with require_extra("ray", "--engine ray"):
        import ray
        import ray.data
    started = not ray.is_initialized()
    if started:
        try:
            _check_address(address)
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            reason = first_line(error)
            raise OSError(f"Expected a Ray cluster at {address or 'RAY_ADDRESS'}, got none ({reason})") from error
    try:
        yield from _statuses(ray, run, units, workers, device)
    except ray.exceptions.RayError as error:
        reason = first_line(error)
        raise OSError(f"Ray could not complete the work ({reason}); repeat the command to resume") from error
    finally:
        if started:
            ray.shutdown()


def _check_address(address: str | None) -> None:
    """Raise OSError or ValueError if nothing listens at an address HOST:PORT. Ray would try for minutes."""
    host, separator, port = (address or "").rpartition(":")
    if separator and "/" not in host:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


def _statuses(ray: Any, run: UnitRun, units: Sequence[Unit], workers: int | None, device: str) -> Statuses:
    resources = ray.cluster_resources()
    use_gpus = device.startswith("cuda") or (device == "auto" and resources.get("GPU", 0) > 0)
    available = int(resources.get("GPU" if use_gpus else "CPU", 1))
    most = max(1, min(workers or available, available, len(units)))
    rows = [{"unit": pickle.dumps(unit)} for unit in units]
    ray.data.DataContext.get_current().enable_progress_bars = False
    statuses = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        Actor,
        fn_constructor_args=(run, "cuda" if use_gpus else device.replace("auto", "cpu")),
        # All are started at once. One is enough to continue with when nodes are lost.
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most, initial_size=most),
        num_cpus=1,
        num_gpus=1 if use_gpus else 0,
    )
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it was configured when the dataset was made
    seen = set()
    for row in statuses.iter_rows():
        status = Status(**json.loads(row["status"]))
        if status.unit not in seen:
            seen.add(status.unit)
            yield status


class Actor:
    """Makes the units that Ray sends, one at a time."""

    def __init__(self, run: UnitRun, device: str):
        self.run = run
        self.device = device

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        """Make a unit, and return its status."""
        unit = pickle.loads(row["unit"])
        return {"status": json.dumps(asdict(self.run(unit, self.device)))}
