"""What all benchmarks share: contestants that take turns, and the machine that they ran on."""

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
"""Flags of /proc/cpuinfo that decide how fast convolutions are."""

MACHINE = "Machine: "
"""How the line that names the machine starts."""


@dataclass(frozen=True)
class Times:
    """The seconds of each round of one contestant."""

    rounds: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def spread(self) -> str:
        return f"{min(self.rounds):.3f} to {max(self.rounds):.3f}"

    def ratio(self, other: "Times") -> float:
        """How many times longer `other` took: the median over the rounds, whatever else the machine did in some."""
        return statistics.median(b / a for a, b in zip(self.rounds, other.rounds, strict=True))


def take_turns(
    calls: Mapping[str, Callable[[], object]],
    rounds: int,
    device: str = "cpu",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Time each call once a round, in an order that alternates, after one round to warm up.

    With `time.process_time` as the clock, the times are those of one core, whatever else runs on it.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name in list(calls)[:: -1 if number % 2 else 1]:
            start = clock()
            calls[name]()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if number:
                seconds[name].append(clock() - start)
    return {name: Times(rounds) for name, rounds in seconds.items()}


def median(call: Callable[[], object], rounds: int = 15) -> float:
    """Seconds, after one call to warm up."""
    return take_turns({"call": call}, rounds)["call"].median


def machine(device: str = "cpu") -> str:
    """One line: the processor or GPU, the features that matter, threads and the version of PyTorch."""
    if device.startswith("cuda"):
        return f"{MACHINE}{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    about = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    name = about.get("model name", platform.processor() or platform.machine()).strip()
    features = " ".join(feature for feature in FEATURES if feature in about.get("flags", "").split())
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{MACHINE}{name} ({features or capability}), {torch.get_num_threads()} threads, torch {torch.__version__}"


def row(name: str, ours: float, theirs: float) -> None:
    """Print one comparison."""
    print(f"{name:46} {ours:9.4f} {theirs:9.4f} {theirs / ours:7.2f}", flush=True)
