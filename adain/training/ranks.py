"""Several ranks of one run: when one of them fails, all of them end, with its reason.

Without this, the other ranks would wait for the failed one in their next collective operation, for half an hour with
NCCL, and would then report a lost connection instead of the reason.
"""

import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import torch.distributed
from pytorch_lightning.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch.distributed import TCPStore

from adain.utils.errors import one_line, shortened

POLL_SECONDS = 0.5
"""Time between two looks at the other ranks."""

SILENT_SECONDS = 40
"""A rank without a heartbeat for this long has failed, for example because its machine was switched off."""

FAREWELL_SECONDS = 2
"""How long a failed run waits until all ranks have read the reason."""

EXIT_CODE = 2
"""As after all other errors."""

LOST_CONNECTION = re.compile(r"gloo|nccl|connection (closed|reset)|broken pipe", re.IGNORECASE)
"""What the messages of collective operations contain after another rank has died."""

RESTART = "resume with --ckpt_path last"
LOST_RANK = "lost the connection to another rank, which may have been killed, perhaps for lack of memory"

MEMORY_ADVICE = "lower --data.batch_size or --data.crop"


class RankMonitor:
    """Ends this process as soon as another rank of the run has failed.

    The ranks share a key-value store, which the process of rank 0 serves. A rank that fails writes its reason there,
    and a thread of every rank looks for it. A rank that was killed writes nothing: it is missed, or, if it is rank 0,
    the store is gone.

    On every node, the first local rank prints the reason.

    Args:
        rank: The rank.
        local_rank: The rank among those of this node.
        node_rank: The number of the node.
        world_size: The number of ranks.
        store: The store.
        is_child: Whether the process that started this one lives as long as the run, so that its end is a failure.
        clean_up: Called before this process ends because of a failure.
    """

    def __init__(
        self,
        rank: int,
        local_rank: int,
        node_rank: int,
        world_size: int,
        store: torch.distributed.Store,
        is_child: bool,
        clean_up: Callable[[], None],
    ):
        self.rank = rank
        self.local_rank = local_rank
        self.node_rank = node_rank
        self.world_size = world_size
        self.store = store
        self.parent = os.getppid() if is_child else None
        self.clean_up = clean_up
        self.signs = {other: (0, time.monotonic()) for other in range(1, world_size)}  # of life: count, time of it
        self.closing = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="rank-monitor", daemon=True)
        self.thread.start()

    def fail(self, error: BaseException) -> None:
        """Tell all ranks why this one failed, and end this process. The first reason is that of the run."""
        self._report(_reason(error))
        self.thread.join()

    def close(self) -> None:
        """Stop monitoring the other ranks. Rank 0 waits until all ranks have called this, as it serves the store."""
        self.store.add("closed", 1)
        deadline = time.monotonic() + SILENT_SECONDS
        while self.rank == 0 and self.store.add("closed", 0) < self.world_size and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 10)
        self.closing.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.closing.wait(POLL_SECONDS):
            try:
                self.store.add(f"alive {self.rank}", 1)
                if self.rank == 0:
                    self._miss_silent_ranks()
                if self.parent not in (None, os.getppid()):
                    self._report("the process that started it was killed; " + RESTART)
                if self.store.check(["failure"]):
                    self._end(json.loads(self.store.get("failure")))
            except RuntimeError:  # the store is gone
                self._end({"rank": 0, "reason": f"it was killed; {RESTART}"}, first_is_lost=True)

    def _miss_silent_ranks(self) -> None:
        """Report a rank that has given no sign of life."""
        if self.store.add("closed", 0):
            return  # ranks that have come to the end are silent
        now = time.monotonic()
        for other, (count, last) in self.signs.items():
            current = self.store.add(f"alive {other}", 0)
            if current != count:
                self.signs[other] = current, now
            elif now - last > SILENT_SECONDS:
                self._report(f"rank {other} has not answered for {SILENT_SECONDS} seconds; {RESTART}")

    def _report(self, reason: str) -> None:
        failure = {"rank": self.rank, "reason": reason}
        try:
            self.store.compare_set("failure", "", json.dumps(failure))
        except RuntimeError:  # the store is gone, which the thread notices
            return

    def _end(self, failure: dict[str, Any], first_is_lost: bool = False) -> None:
        """Print the reason and end this process.

        Args:
            failure: What `_report` wrote.
            first_is_lost: Whether it is rank 0 that was killed, so that the next rank of its node prints.
        """
        try:
            if self.local_rank == (1 if first_is_lost and self.node_rank == 0 else 0):
                print(f"adain: error: rank {failure['rank']}: {failure['reason']}", file=sys.stderr, flush=True)
            self.clean_up()
            self._wait_for_readers()
        finally:
            os._exit(EXIT_CODE)  # not sys.exit: the main thread may wait for a dead rank forever

    def _wait_for_readers(self) -> None:
        """Wait until all ranks have read the failure. Rank 0 goes first, whose exit code is that of the launcher."""
        deadline = time.monotonic() + FAREWELL_SECONDS
        try:
            readers = self.store.add("read", 1)
            while time.monotonic() < deadline and (self.rank or readers < self.world_size):
                time.sleep(POLL_SECONDS / 10)
                readers = self.store.add("read", 0)
        except RuntimeError:
            pass  # rank 0 has ended


class MonitoredDDP(DDPStrategy):
    """Lightning's `ddp`, with a `RankMonitor` on every rank."""

    monitor: RankMonitor | None = None
    clean_up: Callable[[], None] = staticmethod(lambda: None)
    """Called before the process ends because a rank has failed."""

    def setup_environment(self) -> None:
        """Join the process group, and start to look at the other ranks."""
        super().setup_environment()
        if self.world_size == 1:
            return
        environment = self.cluster_environment
        assert environment is not None
        is_child = "TORCHELASTIC_RUN_ID" in os.environ
        if isinstance(environment, LightningEnvironment):
            is_child = self.local_rank > 0
        self.monitor = RankMonitor(
            self.global_rank,
            self.local_rank,
            self.node_rank,
            self.world_size,
            self._open_store(environment.main_address),
            is_child,
            self.clean_up,
        )

    def _open_store(self, address: str) -> torch.distributed.Store:
        """Return the store of the ranks, which rank 0 serves at any free port."""
        timeout = timedelta(seconds=SILENT_SECONDS)
        if self.global_rank == 0:
            store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False, timeout=timeout)
            self.broadcast(store.port)
            return store
        port: Any = self.broadcast(None)
        return TCPStore(address, port, wait_for_workers=False, timeout=timeout)

    def on_exception(self, exception: BaseException) -> None:
        """End all ranks."""
        super().on_exception(exception)
        if self.monitor:
            self.monitor.fail(exception)

    def teardown(self) -> None:
        """Let the other ranks end by themselves."""
        if self.monitor:
            self.monitor.close()
            self.monitor = None
        super().teardown()


def _reason(error: BaseException) -> str:
    """Return what to print about an error of this rank. The traceback of a bug is printed at once."""
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return "interrupted"
    if isinstance(error, RuntimeError) and LOST_CONNECTION.search(str(error)):
        return f"{LOST_RANK} ({shortened(str(error), 120)}); {RESTART}"
    if isinstance(error, MisconfigurationException):
        error = ValueError(str(error))
    try:
        return one_line(cast(Exception, error), MEMORY_ADVICE)
    except Exception:
        traceback.print_exception(error)
        return f"{type(error).__name__}: {shortened(str(error), 200)}"
