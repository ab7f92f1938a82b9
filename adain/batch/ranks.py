"""The share of this process in a run of several processes that a launcher started."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
"""Environment variables of a launcher."""


@dataclass(frozen=True)
class Rank:
    """This process among those that share the work."""

    number: int = 0
    count: int = 1
    local: int = 0
    """Number among the processes of this computer, for the choice of a GPU."""

    def manifest(self, stem: str) -> str:
        """Return the name of the manifest that this process writes, with or without its number after the stem."""
        return f"{stem}-{self.number}.jsonl" if self.count > 1 else f"{stem}.jsonl"

    def other_manifests(self, stem: str) -> str:
        """Return the pattern of the manifests that no other run may be writing."""
        return f"{stem}.jsonl" if self.count > 1 else f"{stem}*.jsonl"


def rank_of(
    environment: Mapping[str, str] = os.environ, launchers: Sequence[tuple[str, str, str]] = (TORCHRUN, SLURM)
) -> Rank:
    """Return the rank that one of the launchers gave to this process, or the only one.

    Raises:
        ValueError: The variables are not those of a rank.
    """
    for number, count, local in launchers:
        if number not in environment or count not in environment:
            continue
        try:
            return _parse_rank(environment[number], environment[count], environment.get(local, "0"))
        except ValueError as error:
            given = f"{environment[number]} and {environment[count]}"
            raise ValueError(
                f"Expected {number} from 0 to {count} - 1, got {given}; start the run with its launcher"
            ) from error
    return Rank()


def _parse_rank(number: str, count: str, local: str) -> Rank:
    rank = Rank(int(number), int(count), int(local))
    if not 0 <= rank.number < rank.count:
        raise ValueError(f"Expected a rank from 0 to {rank.count} - 1, got {rank.number}")
    return rank
