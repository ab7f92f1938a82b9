import pytest
import torch

import adain
from adain import inference, ops, tiling
from adain.tiling import Brush

TILED = ["adain", "adain-lite", "adaconv", "wct"]


@pytest.fixture(params=TILED, scope="module")
def ready(request):
    return adain.prepare(request.param, "cpu", "fp32")


def picture(height, width, seed=0):
    small = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize(("size", "tile"), [((200, 333), 128), ((97, 150), 64), ((21, 300), 200)])
def test_tiles_are_the_whole(ready, size, tile):
    content, style = picture(*size), picture(64, 80, 1)
    whole = adain.stylize(content, style, ready)
    tiled = adain.stylize(content, style, ready, tile=tile)
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)
