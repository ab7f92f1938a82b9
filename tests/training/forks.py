"""Runs of several ranks, as `torchrun` starts them, but as forks of a process that has already imported everything.

`Forks` starts this file as a program, which reads a list of runs from each line and answers with the exit codes.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEADLINE = 300
"""Seconds until a run is killed. They are many because machines that test are busy; no run should ever need them."""


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


class Forks:
    """The program, as a context manager."""

    def __enter__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-W", "ignore", __file__]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT, env=environment)
        return self

    def __exit__(self, *_):
        self.process.communicate(timeout=60)

    def run(self, *ranks, nodes=1):
        """Run a command line of training on each rank; return the exit codes and what the ranks print."""
        port = free_port()
        local_ranks = len(ranks) // nodes
        jobs = []
        for rank, words in enumerate(ranks):
            variables = {
                "RANK": rank,
                "LOCAL_RANK": rank % local_ranks,
                "GROUP_RANK": rank // local_ranks,
                "WORLD_SIZE": len(ranks),
                "LOCAL_WORLD_SIZE": local_ranks,
                "MASTER_ADDR": "localhost",
                "MASTER_PORT": port,
                "TORCHELASTIC_RUN_ID": "test",
            }
            if len(ranks) == 1:
                variables = {}  # an ordinary run
            jobs.append(([*map(str, words)], {name: str(value) for name, value in variables.items()}))
        print(json.dumps(jobs), file=self.process.stdin, flush=True)
        return tuple(json.loads(self.process.stdout.readline()))


def fork(words, variables, log):
    """Start a rank and return its process id."""
    child = os.fork()
    if child:
        return child
    os.environ.update(variables)
    for stream in (1, 2):
        os.dup2(log.fileno(), stream)
    sys.exit(guarded(lambda: main(["fit", *words])))


def wait(children):
    """Return the exit codes of the children; minus the number of the signal, if one killed them."""
    codes = {}
    deadline = time.monotonic() + DEADLINE
    while len(codes) < len(children):
        for child in set(children) - set(codes):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                codes[child] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    return [codes[child] for child in children]


if __name__ == "__main__":
    from adain.cli.main import guarded
    from adain.training.cli import main

    for line in sys.stdin:
        with tempfile.TemporaryFile("w+") as log:
            children = [fork(words, variables, log) for words, variables in json.loads(line)]
            codes = wait(children)
            log.seek(0)
            print(json.dumps([codes, log.read()]), flush=True)
