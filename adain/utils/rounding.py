"""Integer division that rounds up."""


def ceil_div(number: int, divisor: int) -> int:
    """Return number / divisor, rounded up to a whole number, without the errors of floating point.

    >>> ceil_div(7, 4), ceil_div(8, 4)
    (2, 2)
    """
    return -(-number // divisor)


def round_up(number: int, multiple: int) -> int:
    """Return the smallest multiple of `multiple` that is not below the number.

    >>> round_up(7, 4), round_up(8, 4)
    (8, 8)
    """
    return ceil_div(number, multiple) * multiple
