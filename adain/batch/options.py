"""Options of a folder run. This module does not import torch, so that the command line starts fast."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RunOptions:
    """How a folder run works.

    Args:
        seed: Seed of everything that is drawn at random.
        batch_size: Largest number of images of one size that are stylized at a time.
        workers: Processes that read the images of a folder; 0 reads them in this process. As many threads write.
        suffix: Suffix of the results, which determines their format.
        verify: Check earlier results of a folder by their hashes, not only by size and modification time.
        quiet: Print only errors.

    Raises:
        ValueError: A number is out of range.
    """

    seed: int = 0
    batch_size: int = 8
    workers: int = 2
    suffix: str = ".png"
    verify: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, got {self.workers}")


DEFAULT_RUN_OPTIONS = RunOptions()
