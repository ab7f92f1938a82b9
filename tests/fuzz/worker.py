"""A process that reads hostile files under limits of memory and time, and its client.

The worker answers each request, a line of JSON, with a line of JSON. What it prints beside that is returned, too.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

MEMORY = 2**28
"""Bytes by which one process may grow over all requests."""

HARD_LIMIT = 2**30
"""Bytes of address space beyond those of the start: what the system refuses is an error, and not the end of tests."""

SECONDS = 60
"""Time limit for each request. They take milliseconds; the machine may be busy."""


@dataclass(frozen=True)
class Reply:
    """How a request ended.

    Args:
        outcome: `result`, `error` (an expected exception), or `bug` (any other).
        text: The result in words, the message, or the traceback.
        printed: What was printed.
    """

    outcome: str
    text: str
    printed: str


class Worker:
    """The client: starts the process when it is needed, and again after it was killed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def ask(self, kind: str, **arguments) -> Reply:
        """Send a request. Raises AssertionError if the worker hangs, dies, or grows too much."""
        if self.process is None:
            self._start()
        request = json.dumps({"kind": kind, "arguments": arguments}, default=str)
        self.process.stdin.write(request.encode() + b"\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        line = self.process.stdout.readline() if ready else b""
        if not line:
            code = self.process.poll()
            self.close()
            raise AssertionError(f"{request} {f'died: exit code {code}' if ready else 'hangs'}")
        reply = json.loads(line)
        grown = reply.pop("grown")
        if grown > MEMORY:
            self.close()
            raise AssertionError(f"{request} took {grown / 2**20:.0f} MiB: {reply}")
        return Reply(**reply)

    def _start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "VIPS_CONCURRENCY": "1"}
        command = [sys.executable, "-m", "tests.fuzz.worker"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
        assert self.process.stdout.readline() == b"ready\n"

    def close(self) -> None:
        """End the process."""
        if self.process:
            self.process.kill()
            self.process.communicate()
            self.process = None


def serve() -> None:
    """Answer the requests on standard input."""
    from tests.fuzz import handlers

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    captured = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - it is open until the process ends
    os.dup2(captured.fileno(), 1)
    os.dup2(captured.fileno(), 2)
    handlers.warm_up()
    _limit_memory()
    start = _peak()
    print("ready", file=answers)
    for line in sys.stdin:
        request = json.loads(line)
        outcome, text = _answer(handlers.HANDLERS[request["kind"]], request["arguments"])
        sys.stdout.flush()
        sys.stderr.flush()
        captured.seek(0)
        printed = captured.read().decode(errors="replace")
        captured.seek(0)
        captured.truncate()
        reply = {"outcome": outcome, "text": text, "printed": printed, "grown": _peak() - start}
        print(json.dumps(reply), file=answers)


def _answer(handler, arguments) -> tuple[str, str]:
    from adain.utils.errors import one_line

    try:
        return "result", handler(**arguments)
    except (OSError, ValueError) as error:
        return "error", one_line(error)
    except BaseException:
        return "bug", traceback.format_exc()


def _limit_memory() -> None:
    import resource

    import psutil

    limit = psutil.Process().memory_info().vms + HARD_LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    serve()
