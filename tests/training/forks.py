"""Runs of several ranks, as `torchrun` starts them, but as forks of a process that has already imported everything.

`Forks` starts this file as a program, which reads the command lines of a run from a line of its input, and answers with
the exit codes.
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

    runs = 0

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
        self.runs += 1
        print(json.dumps([self.runs, jobs]), file=self.process.stdin, flush=True)
        run = 0
        while run < self.runs:  # not the answer for a test that did not wait for it
            run, codes, output = json.loads(self.process.stdout.readline())
        return codes, output


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
        run, jobs = json.loads(line)
        with tempfile.TemporaryFile("w+") as log:
            children = [fork(words, variables, log) for words, variables in jobs]
            codes = wait(children)
            log.seek(0)
            print(json.dumps([run, codes, log.read()]), flush=True)
