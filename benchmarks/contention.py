"""`infer.py` alone, and beside one program for each core that never waits: `python -m benchmarks.contention`.

Compares the limit on active waiting of the command line (`adain.utils.spinning`) with the default of GNU's OpenMP.
Whole processes are timed, and they take turns.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from adain.evaluation.report import markdown
from adain.utils.spinning import SPINS
from benchmarks.timing import machine, take_turns

ROOT = Path(__file__).parents[1]
GNU_SPINS = 300_000
"""Turns of GNU's OpenMP where there are no more threads than cores."""


@contextmanager
def busy_cores(count: int) -> Iterator[None]:
    """Run `count` programs that never wait."""
    programs = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def stylize(spins: int, busy: int, flags: list[str]) -> None:
    """Run `infer.py` beside `busy` programs."""
    environment = {**os.environ, "GOMP_SPINCOUNT": str(spins)}
    with busy_cores(busy):
        subprocess.run([sys.executable, "infer.py", *flags], cwd=ROOT, env=environment, check=True, capture_output=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="shorter side in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    busy = os.cpu_count() or 1
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--content", str(ROOT / "examples" / "content" / "astronaut.png"), "--size", str(options.size)]
        flags += ["--style", str(ROOT / "examples" / "style" / "starry_night.jpg"), "--output", f"{folder}/result.png"]
        for title, count in (("alone", 0), (f"beside {busy} programs", busy)):
            calls = {str(spins): partial(stylize, spins, count, flags) for spins in (SPINS, GNU_SPINS)}
            times = take_turns(calls, options.rounds)
            ours, gnu = times[str(SPINS)], times[str(GNU_SPINS)]
            row = {"infer.py": title, "limited (s)": ours.median, "GNU's default (s)": gnu.median}
            rows.append(row | {"times as fast": ours.ratio(gnu)})
    print(f"{machine()}; {options.size} px, {options.rounds} rounds")
    print(markdown(rows), end="")


if __name__ == "__main__":
    main()
