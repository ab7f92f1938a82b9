from functools import partial
from typing import get_args

import psutil
import pytest
import torch
import torch.nn.functional as F

import adain
from adain.functional import statistics, whitening, winograd
from adain.inference import memory_budget, tiling
from adain.inference.regions import Region, blend_regions
from adain.inference.tile_statistics import Moments
from adain.inference.tiles import GRID, split_into_tiles
from adain.methods import METHODS, AdaIN, AdaINLite, Method
from adain.models.layers import Conv2d, Upsampling
from adain.utils import memory
from adain.utils.errors import ContentError


@pytest.fixture(params=["adain", "adain-lite", "adaconv", "wct"], scope="module")
def ready(request):
    return adain.prepare(request.param, "cpu", "fp32")


@pytest.fixture(scope="module")
def lite():
    return adain.prepare("adain-lite", "cpu", "fp32")


def picture(height, width, seed=0):
    small = torch.rand(1, 3, 7, 9, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, (height, width), mode="bicubic").clamp(0, 1)


@pytest.mark.parametrize(("size", "tile"), [((112, 128), 80), ((21, 250), 120)])
def test_tiles_are_the_whole(ready, size, tile):
    content, style = picture(*size), picture(64, 80, 1)
    whole, tiled = (adain.stylize(content, style, ready, tile=one) for one in (None, tile))
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("tile", "size"), [(8, (20, 30)), (33, (70, 90)), (64, (70, 90)), (1000, (70, 90))])
def test_any_tile_size_and_alpha(lite, tile, size):
    content, style = picture(*size), picture(64, 80, 1)
    whole, tiled = (adain.stylize(content, style, lite, alpha=0.6, tile=one) for one in (None, tile))
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["style-swap", "johnson", "gatys"])
def test_methods_that_must_see_the_whole_say_so(name):
    method = METHODS[name]()
    with pytest.raises(ValueError, match="must see the whole image and cannot tile"):
        tiling.stylize_tiled(method, picture(40, 40), [Region({})], tile=32)


def test_adaconv_tiles_at_full_strength_only(monkeypatch):
    ready, pictures = adain.prepare("adaconv", "cpu", "fp32"), (picture(40, 90), picture(40, 40))
    with pytest.raises(ValueError, match=r"AdaConv at alpha 0.5 must see the whole image and cannot tile"):
        adain.stylize(*pictures, ready, alpha=0.5, tile=40)
    whole = adain.stylize(*pictures, ready, alpha=0.5)
    monkeypatch.setattr(memory_budget, "DEFAULT_CPU_BUDGET", 1)
    assert torch.equal(adain.stylize(*pictures, ready, alpha=0.5), whole), "memory or not, it stays whole"


def test_tiles_of_a_network_of_a_coarser_grid():
    method = AdaIN(layer="relu5_1").eval()
    content, code = picture(32, 200), method.encode_style(picture(64, 64, 1))
    whole, tiled = (tiling.stylize_tiled(method, content, [Region(code)], one) for one in (None, 40))
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)


def test_tiles_cover_a_picture_once_and_lie_on_the_grid():
    seen = torch.zeros(1, 1, 104, 77)
    for tile in split_into_tiles(104, 77, 30, 10):
        seen[..., tile.interior[0], tile.interior[1]] += 1
        assert all(part.start % GRID == 0 for part in (*tile.interior, *tile.padded))
        assert (
            tile.crop(seen[..., tile.padded[0], tile.padded[1]]).shape
            == seen[..., tile.interior[0], tile.interior[1]].shape
        )
    assert (seen == 1).all()


@pytest.mark.parametrize("statistic", [statistics.mean_std, whitening.covariance])
def test_moments_of_parts_are_those_of_the_whole(statistic):
    features = torch.randn(2, 5, 12, 20) * 3 + 100
    moments = Moments(statistic)
    for part in (features[..., :7, :], features[..., 7:, :3], features[..., 7:, 3:]):
        moments.add(part)
    for found, expected in zip(moments.statistic_of_all(), statistic(features), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)
        assert found.dtype == expected.dtype


@pytest.mark.parametrize(("dtype", "white"), [(torch.uint8, 255), (torch.uint16, 65535)])
def test_bytes_in_bytes_out(lite, dtype, white):
    numbers = picture(40, 56)
    pixels = (numbers * white).round().to(dtype)
    code = adain.encode_style(lite, picture(32, 32, 1))
    stylized = tiling.stylize_tiled(lite, pixels, [Region(code)])
    assert stylized.dtype == dtype
    expected = adain.stylize(pixels.float() / white, code, lite)
    torch.testing.assert_close(stylized.float() / white, expected, atol=0.51 / white, rtol=0)


def half(height, width, value=255):
    mask = torch.zeros(1, 1, height, width, dtype=torch.uint8)
    mask[..., : width // 2] = value
    return mask


def test_masks_leave_the_rest_untouched_and_share_where_they_overlap(lite):
    content = picture(40, 64)
    a, b = (adain.encode_style(lite, picture(32, 32, seed)) for seed in (1, 2))
    whole = [adain.stylize(content, code, lite) for code in (a, b)]
    one = tiling.stylize_tiled(lite, content, [Region(a, 1.0, half(40, 64))])
    assert torch.equal(one[..., 32:], content[..., 32:])
    torch.testing.assert_close(one[..., :32], whole[0][..., :32])
    both = tiling.stylize_tiled(lite, content, [Region(a, 1.0, half(40, 64)), Region(b, 1.0, half(40, 64))])
    torch.testing.assert_close(both[..., :32], (whole[0] + whole[1])[..., :32] / 2)
    soft = tiling.stylize_tiled(lite, content, [Region(a, 1.0, half(40, 64, 51))])
    torch.testing.assert_close(soft[..., :32], content.lerp(whole[0], 0.2)[..., :32])


def test_a_feathered_edge_is_the_error_function(lite):
    content, style, feather = picture(32, 96), picture(32, 32, 1), 6
    mask = half(32, 96)[0].float() / 255
    whole = adain.stylize(content, style, lite)
    soft = adain.stylize(content, style, lite, mask=mask, feather=feather)
    distance = torch.arange(96) + 0.5 - 48  # of each column's center from the edge
    share = 0.5 * torch.erfc(distance / (feather * 2**0.5))  # a step blurred by a Gaussian
    # Pillow approximates the Gaussian by three box filters: 0.01 off at most.
    torch.testing.assert_close(soft, content.lerp(whole, share), atol=0.015, rtol=0)
    hard = adain.stylize(content, style, lite, mask=mask)
    assert (hard - soft)[..., 40:56].abs().mean() > 0.02, "or a hard edge would pass"


def test_a_feather_larger_than_the_image_leaves_the_mean_of_the_mask(lite):
    content, style = picture(32, 32), picture(32, 32, 1)
    mask = half(32, 32)[0].float() / 255
    results = [adain.stylize(content, style, lite, mask=mask, feather=feather) for feather in (32, 1e12)]
    assert torch.equal(*results)


def test_masks_through_tiles(lite):
    content, style = picture(72, 100), picture(32, 32, 1)
    mask = torch.zeros(1, 36, 50)
    mask[:, 10:30, 5:40] = 1
    whole, tiled = (adain.stylize(content, style, lite, mask=mask, feather=3, tile=one) for one in (None, 40))
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)


def test_smoothing_through_tiles(lite):
    content, style = picture(130, 140), picture(32, 32, 1)
    settings = {"photorealistic": True, "color": "keep-luminance"}
    whole, tiled = (adain.stylize(content, style, lite, tile=one, **settings) for one in (None, 48))
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)


def test_the_tile_follows_from_the_memory(lite, monkeypatch):
    class Free:
        available = 2**30

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Free)
    assert memory_budget.choose_tile(lite, torch.empty(1, 3, 512, 512), None) is None
    assert (
        memory_budget.choose_tile(lite, torch.empty(1, 3, 1, 1).expand(1, 3, 9000, 9000), None)
        == memory_budget.LARGEST_TILE
    )
    Free.available = 2**27
    small = memory_budget.choose_tile(lite, torch.empty(1, 3, 1, 1).expand(1, 3, 9000, 9000), None)
    assert memory_budget.SMALLEST_TILE < small < memory_budget.LARGEST_TILE
    with pytest.raises(ContentError, match=r"tiles of 64 pixels need \d.\d\d GiB of memory, got --max-memory 0.01; "):
        memory_budget.choose_tile(lite, torch.empty(1, 3, 512, 512), 0.01)


def test_max_memory_counts_what_the_process_holds_and_will_cache(monkeypatch):
    method = adain.prepare("adain", "cpu", "fp32")
    pixels = torch.empty(1, 3, 1, 1).expand(1, 3, 4000, 4000)
    monkeypatch.setattr(memory, "held", lambda: 2**30)
    monkeypatch.setattr(winograd, "enabled", lambda: False)
    plain = memory_budget.choose_tile(method, pixels, 2.0)
    to_cache = 2**29
    monkeypatch.setattr(Conv2d, "bytes_to_cache", lambda self: to_cache if self is method.decoder[0] else 0)
    smaller = memory_budget.choose_tile(method, pixels, 2.0)
    overlap = 2 * method.receptive_radius
    fewer_pixels = (plain + overlap) ** 2 - (smaller + overlap) ** 2
    assert fewer_pixels == pytest.approx(to_cache / method.bytes_per_pixel, rel=0.02)
    held = 2**30 + memory_budget.RESERVE + to_cache + pixels.nbytes
    assert (smaller + overlap) ** 2 * method.bytes_per_pixel + held <= 2 * 2**30


def test_the_kernels_that_will_be_cached_are_those_that_are(monkeypatch):
    limits = winograd.Limits(channels=128, tiles=64)
    monkeypatch.setattr(winograd, "MEASURED", {torch.backends.cpu.get_cpu_capability(): (limits,)})
    layer = Conv2d(128, 160, 3, padding=1, padding_mode="reflect").requires_grad_(False)
    expected = layer.bytes_to_cache()
    layer(torch.rand(1, 128, 64, 64))
    assert layer._cached_kernels[2][0].nbytes == expected > 0
    assert layer.bytes_to_cache() == 0


def test_tiles_are_not_smaller_than_64_pixels(lite, monkeypatch):
    large = torch.empty(1, 3, 1, 1).expand(1, 3, 9000, 9000)
    needed = (64 + 2 * lite.receptive_radius) ** 2 * lite.bytes_per_pixel

    class Free:
        available = needed

    monkeypatch.setattr(psutil, "virtual_memory", lambda: Free)
    assert memory_budget.choose_tile(lite, large, None) == 64
    Free.available = needed - 2**20
    with pytest.raises(
        ContentError, match=r"tiles of 64 pixels need 0.03 GiB of memory, 0.02 GiB are free; allow more"
    ):
        memory_budget.choose_tile(lite, large, None)


def test_memory_that_the_cuda_allocator_caches_is_free(monkeypatch):
    device = torch.device("cuda", 0)
    fakes = {"mem_get_info": (10, 100), "memory_reserved": 50, "memory_allocated": 20}
    for name, value in fakes.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)
    assert memory.free(device) == 10 + 50 - 20


def test_a_batch_that_the_padding_of_cuda_refuses_is_tiled(monkeypatch):
    class Method:
        device, dtype = torch.device("cuda", 0), torch.bfloat16
        bytes_per_pixel, receptive_radius = 1000, 74

    monkeypatch.setattr(memory, "free", lambda _: 2**38)
    large = torch.empty(1, 3, 1, 1).expand(8, 3, 2048, 2048)  # 64 channels of it have 2^31 elements
    assert memory_budget.choose_tile(Method, large, None) == memory_budget.LARGEST_TILE
    assert memory_budget.choose_tile(Method, large[:7], None) is None


def test_an_accelerator_out_of_memory_goes_on_in_tiles(lite, monkeypatch, caplog):
    content, style = picture(96, 96), picture(32, 32, 1)
    expected = adain.stylize(content, style, lite)
    encode = AdaINLite.encode_content

    def limited(self, batch, *args):
        if batch[0, 0].numel() > 96 * 90:
            raise torch.OutOfMemoryError("no more")
        return encode(self, batch, *args)

    monkeypatch.setattr(AdaINLite, "encode_content", limited)
    monkeypatch.setattr(lite, "receptive_radius", 16)
    assert adain.stylize(content, style, lite).shape == expected.shape
    assert "trying again with tiles of 64 pixels" in caplog.text
    monkeypatch.setattr(lite, "receptive_radius", None)
    with pytest.raises(torch.OutOfMemoryError):
        adain.stylize(content, style, lite)


def test_an_accelerator_with_too_little_memory_for_tiles_of_64_pixels_is_an_error(lite, monkeypatch):
    tried = []

    def out_of_memory(tile):
        tried.append(tile)
        raise torch.OutOfMemoryError("no more")

    with pytest.raises(ContentError, match=r"tiles of 64 pixels need 0.04 GiB of memory, the device has less; "):
        memory_budget.run_fitting(out_of_memory, None, 300, 2**25)
    assert tried == [None, 150, 75, 64]


def test_reach_follows_the_encoder():
    assert AdaIN(layer="relu1_1").receptive_radius == 2
    assert AdaIN(layer="relu4_1").receptive_radius == 74
    assert AdaIN("resnet18", "layer2", "random").receptive_radius is None
    assert AdaIN(norm="instance").receptive_radius is AdaIN(norm="layer").receptive_radius is None


@pytest.mark.parametrize("upsampling", get_args(Upsampling))
@pytest.mark.parametrize(
    "kind",
    [
        partial(AdaIN, layer="relu2_1"),
        partial(AdaIN, layer="relu2_1", extra_convolutions=2),
        partial(AdaINLite, blocks=1),
        partial(AdaINLite, blocks=1, skips=True),
    ],
)
def test_no_pixel_is_affected_from_farther_than_the_receptive_radius(kind, upsampling):
    method = kind(upsampling=upsampling).double()
    for parameter in method.parameters():
        parameter.data.abs_().add_(1e-3)  # no ReLU cuts a path off, and no weight is zero
    content = torch.rand(1, 3, 100, 100, dtype=torch.float64)
    code = method.encode_style(content)

    def detached(function, features):
        return [statistic.detach() for statistic in statistics.compute_statistics(function, features)]

    farthest = 0
    for center in range(48, 52):
        pixels = content.clone().requires_grad_()
        result = method.decode(method.encode_content(pixels, detached, blend=False), code, 1.0, detached)
        gradient = torch.autograd.grad(result[..., center, center].sum(), pixels)[0]
        affecting = gradient[0].abs().sum(0).nonzero()
        farthest = max(farthest, (affecting - center).abs().max().item())
    assert 0.5 * method.receptive_radius < farthest <= method.receptive_radius


class Recorder(Method):
    """Returns its input, which it records, 0.75 brighter. Pixels at most 3 away affect a pixel."""

    stride = 8
    receptive_radius = 3

    def __init__(self):
        super().__init__()
        self.register_buffer("zero", torch.zeros(()))
        self.seen = []

    def encode_style(self, style):
        return {}

    def stylize(self, content, code, alpha=1.0, statistics_fn=statistics.compute_statistics):
        self.seen.append(content)
        return content + 0.75


@pytest.mark.parametrize(
    ("side", "padded", "mode"), [(1, 16, "replicate"), (8, 16, "replicate"), (9, 16, "reflect"), (17, 24, "reflect")]
)
def test_small_images_are_padded_to_two_strides(side, padded, mode):
    for shape in ((side, 24), (24, side)):
        method, content = Recorder(), torch.rand(1, 3, *shape)
        result = tiling.stylize_tiled(method, content, [Region({})])
        (seen,) = method.seen
        extra = padded - side
        expected = F.pad(content, (0, extra, 0, 0) if shape[1] == side else (0, 0, 0, extra), mode)
        assert torch.equal(seen, expected)
        assert torch.equal(result, (content + 0.75).clamp(0, 1))


def test_interior_and_padded_parts_of_tiles():
    tiles = list(split_into_tiles(24, 40, 15, 3))
    assert [(tile.interior, tile.padded) for tile in tiles] == [
        ((slice(0, 16), slice(0, 16)), (slice(0, 24), slice(0, 24))),
        ((slice(0, 16), slice(16, 32)), (slice(0, 24), slice(8, 40))),
        ((slice(0, 16), slice(32, 40)), (slice(0, 24), slice(24, 40))),
        ((slice(16, 24), slice(0, 16)), (slice(8, 24), slice(0, 24))),
        ((slice(16, 24), slice(16, 32)), (slice(8, 24), slice(8, 40))),
        ((slice(16, 24), slice(32, 40)), (slice(8, 24), slice(24, 40))),
    ]
    (whole,) = split_into_tiles(24, 40, None, 3)
    assert whole.interior == whole.padded == (slice(0, 24), slice(0, 40))
    features = torch.arange(10).expand(1, 1, 6, 10)  # at a quarter of the size
    assert tiles[1].crop(features[..., 2:10], 4)[0, 0].tolist() == [[4, 5, 6, 7]] * 4


def test_a_method_gets_the_padded_parts_of_tiles():
    method, content = Recorder(), torch.rand(1, 3, 16, 33)
    result = tiling.stylize_tiled(method, content, [Region({})], tile=16)
    padded = F.pad(content, (0, 7, 0, 0), mode="reflect")
    expected = [padded[..., tile.padded[0], tile.padded[1]] for tile in split_into_tiles(16, 40, 16, 3)]
    seen = method.seen[-len(expected) :]  # after the passes that gather statistics, of which there are none
    assert all(torch.equal(*pair) for pair in zip(seen, expected, strict=True))
    assert torch.equal(result, (content + 0.75).clamp(0, 1))


def test_a_finish_changes_the_colors_of_every_tile():
    method, content = Recorder(), picture(16, 64)
    result = tiling.stylize_tiled(method, content, [Region({})], tile=16, finish=lambda x, content: (x + content) / 2)
    torch.testing.assert_close(result, ((content + 0.75).clamp(0, 1) + content) / 2)


def test_tiles_at_full_strength_rebuild_nothing(lite, monkeypatch):
    content, code = picture(40, 64), adain.encode_style(lite, picture(32, 32, 1))
    expected = adain.stylize(content, code, lite)
    monkeypatch.setattr(AdaINLite, "rebuild", None)
    monkeypatch.setattr(AdaINLite, "encode_style", None)
    torch.testing.assert_close(adain.stylize(content, code, lite, tile=32), expected, atol=1e-4, rtol=0)


def test_regions_blend_by_their_shares():
    """One row of five pixels: only a, a and b, b at half its strength, neither, and b."""
    a, b = torch.tensor([[255, 255, 0, 0, 0], [0, 255, 51, 0, 255]], dtype=torch.uint8).view(2, 1, 1, 1, 5)
    regions = [Region({}, 0.5, a, residual=0.5), Region({}, 0.75, b, residual=0.25)]
    content, window = torch.zeros(1, 3, 2, 6), (slice(0, 1), slice(0, 5))  # padded at the bottom and right
    layers = blend_regions(content, window, regions, lambda i: content + (1, 3)[i], lambda: content + 0.5)
    assert layers.stylized[0, 0].tolist() == [[1, 2, 3, 0, 3, 0], [0] * 6]
    assert layers.residual[0, 0].tolist() == [[0.5, 0.375, 0.25, 0, 0.25, 0], [0] * 6]
    assert layers.covered[0, 0, 0].tolist() == pytest.approx([1, 1, 0.2, 0, 1, 0])
    stylized = layers.over(content, lambda stylized, content: 2 * stylized)
    # Twice the styles minus the residual of twice the reconstruction, where the masks cover the content.
    expected = [2 - 0.5, 4 - 0.375, 0.2 * (6 - 0.25), 0, 6 - 0.25, 0]
    assert stylized[0, 0, 0].tolist() == pytest.approx(expected)


def test_regions_that_no_mask_shows_are_not_stylized():
    left = half(4, 8)
    regions = [Region({}, 1.0, left), Region({}, 0.5, 255 - left, residual=0.5)]
    content, calls = torch.zeros(1, 3, 4, 4), []

    def stylize(i):
        calls.append(i)
        return content

    layers = blend_regions(content, (slice(0, 4), slice(0, 4)), regions, stylize, lambda: calls.append("rebuilt"))
    assert calls == [0]
    assert layers.reconstructed is None
    assert Region({}).residual == 0, "nothing is added back by default"


def test_masked_tiles_ask_for_the_statistics_of_every_region(lite):
    """The statistics that are handed out are changed here, as a video does to smooth them over time."""
    content = picture(32, 64)
    codes = [adain.encode_style(lite, picture(32, 32, seed)) for seed in (1, 2)]
    regions = [
        Region(code, 0.6, mask, 0.4) for code, mask in zip(codes, (half(32, 64), 255 - half(32, 64)), strict=True)
    ]

    def brighter(statistic, features):
        mean, std = statistic(features)
        return mean + 0.05, std

    whole, tiled = (tiling.stylize_tiled(lite, content, regions, one, statistics_fn=brighter) for one in (None, 32))
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)
    assert (whole - tiling.stylize_tiled(lite, content, regions)).abs().mean() > 1e-3
