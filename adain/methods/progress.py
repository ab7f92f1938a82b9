"""The progress that an optimization reports after each step, and the exception that stops it."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """State of an optimization after a step, with its weighted losses."""

    step: int
    steps: int
    size: int  # shorter side of the current image in pixels
    total: float
    content: float
    style: float
    tv: float
    picture: Tensor  # the best image so far, (1, 3, H, W)


class Stop(Exception):  # noqa: N818 - not an error
    """Raised by a callback to end an optimization. The result is then `picture`, the best image so far."""

    def __init__(self, picture: Tensor):
        super().__init__()
        self.picture = picture
