"""What an optimization reports after each step, and how it is stopped."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Progress:
    """Where an optimization stands after a step: its weighted losses."""

    step: int
    steps: int
    size: int  # shorter side in pixels of the picture that is worked on
    total: float
    content: float
    style: float
    tv: float
    picture: Tensor  # (1, 3, H, W), the best so far


class Stop(Exception):  # noqa: N818 - no error
    """Raised by a callback to end an optimization, whose result is then the best that it has reached."""

    def __init__(self, picture: Tensor):
        super().__init__()
        self.picture = picture
