import pytest
import torch
import torch.nn.functional as F

from adain.functional import (
    adaptive_convolution,
    colors,
    guided_filter,
    normalization,
    patch_swap,
    statistics,
    whitening,
)
from adain.methods import WCT


def test_mean_std_of_known_channels():
    features = torch.tensor([[1.0, 3.0], [5.0, 7.0]]).expand(1, 2, 2, 2)
    mean, std = statistics.mean_std(features, eps=0)
    assert mean.flatten().tolist() == [4, 4]
    torch.testing.assert_close(std.flatten(), torch.full((2,), 5.0).sqrt())


def test_mean_std_gradient_against_finite_differences():
    features = torch.rand(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(statistics.mean_std, features)
    assert torch.autograd.gradgradcheck(statistics.mean_std, features)


def test_mean_std_keeps_its_gradient_in_flat_half_precision_channels():
    exact = (torch.rand(1, 4, 16, 16) * 0.02 + 1).bfloat16().double().requires_grad_()
    half = exact.detach().bfloat16().requires_grad_()
    for features in (exact, half):
        statistics.mean_std(features)[1].sum().backward()
    error = (half.grad - exact.grad).norm() / exact.grad.norm()
    assert error < 0.01


def test_statistics_are_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        mean, std = statistics.mean_std(torch.rand(1, 2, 8, 8).bfloat16())
    assert mean.dtype == std.dtype == torch.float32


def test_adain_takes_on_the_statistics_of_the_style():
    content, style = torch.randn(2, 8, 32, 32) * 3 + 1, torch.randn(2, 8, 16, 24) * 0.5 - 2
    mean, std = statistics.mean_std(style)
    result_mean, result_std = statistics.mean_std(normalization.adain(content, mean, std))
    torch.testing.assert_close(result_mean, mean, atol=1e-4, rtol=0)
    torch.testing.assert_close(result_std, std, atol=1e-4, rtol=0)


def test_adain_with_the_content_as_style_is_the_identity():
    content = torch.randn(1, 4, 9, 7)
    torch.testing.assert_close(
        normalization.adain(content, *statistics.mean_std(content)), content, atol=1e-5, rtol=1e-5
    )


def test_adain_turns_a_dead_channel_into_the_mean_of_the_style():
    content = torch.full((1, 1, 8, 8), 7.0)
    result = normalization.adain(content, torch.tensor(3.0).view(1, 1, 1, 1), torch.tensor(2.0).view(1, 1, 1, 1))
    torch.testing.assert_close(result, torch.full_like(content, 3.0))


def test_adain_keeps_the_type_of_the_content():
    content = torch.rand(1, 2, 4, 4).bfloat16()
    assert normalization.adain(content, *statistics.mean_std(content)).dtype == torch.bfloat16


def test_the_gradient_of_gram_is_its_difference_quotient_and_lies_as_the_features_do():
    features = torch.rand(2, 3, 4, 5, dtype=torch.double).to(memory_format=torch.channels_last).requires_grad_()
    assert torch.autograd.gradcheck(statistics.gram, features)
    assert torch.autograd.gradgradcheck(statistics.gram, features)
    (gradient,) = torch.autograd.grad(statistics.gram(features).square().sum(), features)
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_gram_by_hand_and_in_float32_under_autocast():
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)  # two channels, two pixels
    with torch.autocast("cpu", torch.bfloat16):
        result = statistics.gram(features.bfloat16())
    torch.testing.assert_close(result, torch.tensor([[[5.0, 11.0], [11.0, 25.0]]]) / 4)


def kernels(batch, channels, groups, size=3):
    members = channels // groups
    return torch.randn(batch, channels, members, size, size), torch.randn(batch, channels, members)


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_a_composed_kernel_equals_both_in_sequence(groups):
    x, (depthwise, pointwise) = torch.randn(1, 8, 9, 7), kernels(1, 8, groups)
    sequence = F.conv2d(F.conv2d(x, depthwise[0], groups=groups), pointwise[0][..., None, None], groups=groups)
    composed = F.conv2d(x, adaptive_convolution.compose(depthwise, pointwise)[0], groups=groups)
    torch.testing.assert_close(composed, sequence, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("residual", [False, True])
def test_adaconv_is_normalization_and_a_separate_convolution_of_each_image(residual):
    x, bias, (depthwise, pointwise) = torch.randn(3, 8, 9, 7) * 2 + 1, torch.randn(3, 8), kernels(3, 8, 4)
    kernel = adaptive_convolution.compose(depthwise, pointwise)
    mean, std = statistics.mean_std(x)
    padded = F.pad((x - mean) / std, (1, 1, 1, 1), "reflect")
    expected = torch.cat([F.conv2d(padded[i : i + 1], kernel[i], bias[i], groups=4) for i in range(3)])
    result = adaptive_convolution.adaconv(x, kernel, bias, residual)
    torch.testing.assert_close(result, expected + x * residual, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("batch", [1, 3])
def test_adaconv_on_a_gpu_is_that_on_a_cpu_which_keeps_channels_last(batch):
    x = torch.randn(batch, 8, 11, 9).to(memory_format=torch.channels_last)
    kernel, bias = torch.randn(batch, 8, 2, 3, 3), torch.randn(batch, 8)
    together = adaptive_convolution._convolve_together(x, kernel, bias)
    one_by_one = adaptive_convolution._convolve_one_by_one(x, kernel, bias)
    torch.testing.assert_close(together, one_by_one, atol=1e-4, rtol=1e-4)
    assert one_by_one.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_adaconv_with_the_styles_statistics_is_adain(groups):
    x, style = torch.randn(2, 6, 9, 7) * 3 + 1, torch.randn(2, 6, 5, 8) - 2
    mean, std = statistics.mean_std(style)
    depthwise, identity = (
        adaptive_convolution.diagonal_kernel(std.flatten(1), groups, 3),
        torch.eye(6 // groups).repeat(groups, 1).expand(2, -1, -1),
    )
    result = adaptive_convolution.adaconv(x, adaptive_convolution.compose(depthwise, identity), mean.flatten(1))
    torch.testing.assert_close(result, normalization.adain(x, mean, std), atol=1e-5, rtol=1e-5)


def test_a_whitened_and_colored_image_has_the_covariance_of_the_style():
    content = torch.randn(2, 12, 20, 15) * 2 + 1
    style = (torch.randn(2, 12, 12) @ torch.randn(2, 12, 300)).view(2, 12, 15, 20)
    transform = WCT.transform(None, content, WCT.code(None, style))
    for found, expected in zip(whitening.covariance(transform), whitening.covariance(style), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


def test_a_image_whitened_and_colored_as_itself_is_itself():
    features = torch.randn(1, 6, 8, 9)
    torch.testing.assert_close(WCT.transform(None, features, WCT.code(None, features)), features, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (2, 3)])
def test_whitening_survives_few_pixels_and_dead_channels(size):
    few, rich = torch.rand(1, 16, *size), torch.rand(1, 16, 9, 9)
    rich[:, 3] = 0
    for content, style in ((few, rich), (rich, few), (torch.zeros_like(rich), rich)):
        result = WCT.transform(None, content, WCT.code(None, style))
        assert result.isfinite().all()
        assert result.abs().max() < 10


@pytest.mark.parametrize(
    "statistic",
    [
        lambda x: statistics.mean_std(x)[1],
        statistics.gram,
        lambda x: whitening.symmetric_power(statistics.gram(x), 0.5),
    ],
)
def test_gradients_of_statistics_by_torch_func(statistic):
    features = torch.rand(2, 3, 4, 5)
    (expected,) = torch.autograd.grad(statistic(features.requires_grad_()).pow(2).sum(), features)
    torch.testing.assert_close(torch.func.grad(lambda x: statistic(x).pow(2).sum())(features.detach()), expected)


@pytest.mark.parametrize("exponent", [0.5, -0.5])
def test_gradients_of_symmetric_powers_against_finite_differences(exponent):
    def power(root):
        return whitening.symmetric_power(root @ root.mT, exponent)

    root = torch.randn(1, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(power, root)
    assert torch.autograd.gradgradcheck(power, root)
    ties = torch.diag(torch.tensor([2.0, 2, 3, 3]).double())[None].requires_grad_()
    assert torch.autograd.gradcheck(lambda matrix: whitening.symmetric_power((matrix + matrix.mT) / 2, exponent), ties)


def test_gradients_of_whitening_are_finite_where_channels_are_dead():
    features = torch.rand(1, 8, 5, 5)
    features[:, 2:5] = 0
    for x in (features, torch.full((1, 3, 8, 8), 0.5)):
        x.requires_grad_()
        mean, covariance = whitening.covariance(x)
        style = torch.rand_like(covariance)
        result = whitening.whiten_and_color(x, mean, covariance, mean, style)
        (gradient,) = torch.autograd.grad((result * torch.rand_like(result)).sum(), x)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 0


def test_symmetric_powers_of_a_known_matrix():
    vectors = torch.linalg.qr(torch.randn(4, 4))[0]
    matrix = vectors @ torch.diag(torch.tensor([4.0, 1.0, 0.25, 0.0])) @ vectors.T
    for power, values in ((0.5, [2.0, 1.0, 0.5, 0.0]), (-0.5, [0.5, 1.0, 2.0, 0.0])):
        expected = vectors @ torch.diag(torch.tensor(values)) @ vectors.T
        torch.testing.assert_close(whitening.symmetric_power(matrix[None], power)[0], expected, atol=1e-4, rtol=1e-4)


def brute_force_swap(content, style, size, stride):
    """By the definition, patch by patch."""

    def patches(x):
        ys, xs = (sorted({*range(0, side - size + 1, stride), side - size}) for side in x.shape[1:])
        return {(y, x_): x[:, y : y + size, x_ : x_ + size] for y in ys for x_ in xs}

    result, count = torch.zeros_like(content), torch.zeros(content.shape[1:])
    candidates = list(patches(style).values())
    for (y, x), patch in patches(content).items():
        best = max(candidates, key=lambda one: ((patch * one).sum() / one.norm()).item())
        result[:, y : y + size, x : x + size] += best
        count[y : y + size, x : x + size] += 1
    return result / count


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2), (4, 3)])
def test_swap_against_brute_force(size, stride):
    content, style = torch.randn(2, 5, 9, 8), torch.randn(2, 5, 7, 11)
    expected = torch.stack([brute_force_swap(*pair, size, stride) for pair in zip(content, style, strict=True)])
    for chunk in (7, 1000):
        torch.testing.assert_close(patch_swap.swap(content, style, size, stride, chunk), expected, atol=1e-5, rtol=1e-5)


def test_swap_compares_patches_of_three_pixels_at_every_position():
    content, style = torch.randn(2, 5, 9, 8), torch.randn(1, 5, 7, 11)
    assert torch.equal(patch_swap.swap(content, style), patch_swap.swap(content, style, size=3, stride=1))


def test_a_patch_may_be_as_large_as_the_features():
    content, style = torch.rand(1, 2, 3, 3), torch.rand(1, 2, 3, 3)
    assert torch.equal(patch_swap.swap(content, style, size=3), style)


def test_the_first_of_equally_similar_patches_is_taken():
    style = torch.tensor([1.0, 2.0]).view(1, 1, 1, 2)  # both point in the direction of the content
    assert patch_swap.swap(torch.ones(1, 1, 1, 1), style, size=1, chunk=1) == 1


def test_a_image_swapped_with_itself_is_itself():
    features = torch.randn(1, 6, 12, 10)
    torch.testing.assert_close(patch_swap.swap(features, features), features, atol=1e-5, rtol=1e-5)


def test_patches_larger_than_the_features_are_refused():
    with pytest.raises(ValueError, match=r"patches of 5 pixels do not fit features of \[4, 6\] and \[9, 9\]"):
        patch_swap.swap(torch.rand(1, 2, 4, 6), torch.rand(1, 2, 9, 9), 5)


def test_keep_luminance_preserves_the_colors_of_the_content():
    stylized, content = torch.rand(1, 3, 4, 5), torch.rand(1, 3, 4, 5)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    result = colors.keep_luminance(stylized, content)
    torch.testing.assert_close((result * weights).sum(1), (stylized * weights).sum(1))
    chroma = result - content
    torch.testing.assert_close(chroma, chroma[:, :1].expand_as(chroma))


def test_matched_colors_have_the_mean_and_covariance_of_the_target():
    image, target = 0.4 + 0.1 * torch.rand(1, 3, 30, 30), 0.5 + 0.05 * torch.randn(1, 3, 20, 25).clamp(-2, 2)
    matched = colors.match_colors(image, target)
    for found, expected in zip(whitening.covariance(matched), whitening.covariance(target), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-2)


def test_a_guided_filter_keeps_what_is_linear_in_its_guide_and_smooths_the_rest():
    guide = torch.zeros(1, 3, 24, 24)
    guide[..., 12:] = 1
    edge = 0.2 + 0.5 * guide
    torch.testing.assert_close(guided_filter.guided_filter(edge, guide, 3, eps=1e-8), edge, atol=1e-3, rtol=0)
    noise = torch.randn(1, 3, 24, 24) * 0.1
    smooth = guided_filter.guided_filter(edge + noise, guide, 3)
    assert (smooth - edge).std() < 0.35 * noise.std()
    far = edge.clone()
    far[..., :4] = 9
    reached = (
        (guided_filter.guided_filter(far, guide, 2) - guided_filter.guided_filter(edge, guide, 2)).abs().amax((0, 1, 2))
    )
    assert reached[:8].gt(1e-3).any()
    assert reached[8:].max() < 1e-4


def test_each_image_of_a_batch_is_filtered_with_its_own_guide():
    images, guides = torch.rand(2, 3, 9, 8).bfloat16(), torch.rand(2, 3, 9, 8)
    both = guided_filter.guided_filter(images, guides, 2)
    assert both.dtype == torch.bfloat16
    for i in range(2):
        part = slice(i, i + 1)
        torch.testing.assert_close(both[part], guided_filter.guided_filter(images[part], guides[part], 2))


def windows(values, radius):
    """The windows of a (H, W) tensor around each pixel, cut at the border, row by row."""
    height, width = values.shape
    for y in range(height):
        for x in range(width):
            yield values[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]


@pytest.mark.parametrize("radius", [1, 2])
def test_a_box_mean_counts_only_pixels_of_the_image(radius):
    image = torch.rand(1, 1, 5, 7)
    expected = torch.stack([window.mean() for window in windows(image[0, 0], radius)]).view(1, 1, 5, 7)
    torch.testing.assert_close(statistics.box_mean(image, radius), expected)


def test_the_guided_filter_by_its_definition():
    image, guide, eps = torch.rand(1, 1, 6, 5), torch.rand(1, 3, 6, 5), 0.02
    gray = guide.mean(1)[0]
    slopes, offsets = [], []
    for x, y in zip(windows(image[0, 0], 1), windows(gray, 1), strict=True):
        slope = ((x * y).mean() - x.mean() * y.mean()) / (y.var(unbiased=False) + eps)
        slopes.append(slope)
        offsets.append(x.mean() - slope * y.mean())
    slope, offset = (torch.stack(values).view(1, 1, 6, 5) for values in (slopes, offsets))
    expected = statistics.box_mean(slope, 1) * gray + statistics.box_mean(offset, 1)
    found = guided_filter.guided_filter(image.expand(1, 3, 6, 5), guide, 1, eps)
    torch.testing.assert_close(found, expected.expand(1, 3, 6, 5), atol=1e-5, rtol=1e-5)


def test_the_luminance_of_the_primary_colors():
    assert statistics.luminance(torch.eye(3).view(3, 3, 1, 1)).flatten().tolist() == pytest.approx(
        [0.299, 0.587, 0.114]
    )


@pytest.mark.parametrize(("given", "expected"), [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_statistics_are_at_least_float32(given, expected):
    features = torch.rand(1, 2, 4, 4).to(given)
    assert {one.dtype for one in (*statistics.mean_std(features), statistics.gram(features))} == {expected}


def test_eigenvalues_below_the_tolerance_count_as_zero():
    matrix = torch.diag(torch.tensor([1.0, 4e-4, 1e-4]))[None]
    powers = whitening.symmetric_power(matrix, -0.5, tolerance=2e-4)[0].diagonal()
    assert powers.tolist() == pytest.approx([1, 50, 0], rel=1e-4)
    kept = whitening.symmetric_power(matrix, -0.5)[0].diagonal()
    assert kept.tolist() == pytest.approx([1, 50, 100], rel=1e-4)


def test_the_covariance_is_a_mean_over_the_pixels():
    features = torch.rand(2, 3, 4, 5)
    mean, covariance = whitening.covariance(features)
    for i in range(2):
        torch.testing.assert_close(covariance[i], features[i].flatten(1).double().cov(correction=0))
        torch.testing.assert_close(mean[i, :, 0], features[i].double().mean((1, 2)))


def test_matched_colors_have_the_shape_and_type_of_the_image():
    image, target = torch.rand(2, 3, 6, 5).bfloat16(), torch.rand(1, 3, 4, 7)
    matched = colors.match_colors(image, target)
    assert (matched.shape, matched.dtype) == (image.shape, torch.bfloat16)
    for i in range(2):
        torch.testing.assert_close(matched[i : i + 1], colors.match_colors(image[i : i + 1], target))


def test_matched_colors_stay_in_range():
    image, target = torch.rand(1, 3, 8, 8), torch.tensor([0.0, 1.0]).repeat(32).view(1, 1, 8, 8).expand(1, 3, 8, 8)
    matched = colors.match_colors(image, target)
    assert matched.min() == 0
    assert matched.max() == 1


def test_each_sample_is_blended_by_its_own_alpha():
    a, b = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    found = normalization.blend(a, b, torch.tensor([0.25, 1.0]))
    torch.testing.assert_close(found[0], 0.75 * a[0] + 0.25 * b[0])
    assert torch.equal(found[1], b[1])


@pytest.mark.parametrize("sides", [(3, 4), (5, 7), (12, 9)])
def test_pooling_by_matrix_products_is_adaptive_pooling(sides):
    x = torch.rand(2, 3, *sides)
    torch.testing.assert_close(adaptive_convolution.pool(x, 3), F.adaptive_avg_pool2d(x, 3))


@pytest.mark.parametrize("size", [1, 3])
def test_the_convolution_of_exported_graphs_is_the_usual_one(size, monkeypatch):
    x, kernel, bias = torch.randn(2, 6, 7, 5), kernels(2, 6, 3, size)[0], torch.randn(2, 6)
    expected = adaptive_convolution.adaconv(x, kernel, bias, residual=True)
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    monkeypatch.setattr(F, "conv2d", None)  # whose groups are fixed in a graph
    found = adaptive_convolution.adaconv(x, kernel, bias, residual=True)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
