"""What is drawn: a function of seed, key, and number, evenly distributed."""

import pytest

from adain.datasets.draws import draw
from adain.datasets.options import ResultOptions

OPTIONS = ResultOptions(p=0.25, alpha=(0.2, 0.8))


def test_draws_are_known():
    """They must never change: a resumed run, perhaps with another version, would mix them."""
    found = draw("cat/1.jpg", 0, 2000, ResultOptions(alpha=(0.5, 1), seed=3))
    shares = [round(share, 6) for share in (found.alpha, found.top, found.left)]
    assert (found.style, *shares) == (
        275,
        0.872148,
        0.969437,
        0.448995,
    )


def test_seed_key_and_number_change_all_draws():
    base = draw("a", 0, 10**6, ResultOptions(alpha=(0, 1)))
    others = (
        draw("b", 0, 10**6, ResultOptions(alpha=(0, 1))),
        draw("a", 1, 10**6, ResultOptions(alpha=(0, 1))),
        draw("a", 0, 10**6, ResultOptions(alpha=(0, 1), seed=1)),
    )
    for other in others:
        assert other.style != base.style
        assert {other.alpha, other.top, other.left}.isdisjoint({base.alpha, base.top, base.left})


def test_draws_are_even():
    draws = [draw(str(i), 0, 10, OPTIONS) for i in range(4000)]
    assert sum(one.is_stylized for one in draws) / 4000 == pytest.approx(0.25, abs=0.03)
    assert {one.style for one in draws} == {*range(10)}
    counts = [sum(one.style == style for one in draws) for style in range(10)]
    assert min(counts) > 320
    assert max(counts) < 480
    alphas = [one.alpha for one in draws]
    assert min(alphas) >= 0.2
    assert max(alphas) <= 0.8
    for values, low, high in (
        (alphas, 0.2, 0.8),
        ([one.top for one in draws], 0, 1),
        ([one.left for one in draws], 0, 1),
    ):
        assert sum(values) / 4000 == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
        assert max(values) - min(values) > 0.99 * (high - low)
