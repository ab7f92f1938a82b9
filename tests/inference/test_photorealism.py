import pytest
import torch

import adain
from adain.functional.guided_filter import fit_linear
from adain.imaging import photo, reader
from adain.inference.photorealism import transfer_colors


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_model_of_a_window_over_the_whole_image_is_the_least_squares_fit(weighted):
    image, guide = noise(2, 2, 7, 7), noise(2, 3, 7, 7, seed=1)
    weight = noise(2, 1, 7, 7, seed=2) if weighted else None
    model = fit_linear(image if weight is None else weight * image, guide, 7, 0.0, weight)
    for i in range(2):
        inputs = torch.cat([guide[i].flatten(1), torch.ones(1, 49)]).T.double()
        outputs = image[i].flatten(1).T.double()
        rows = torch.ones(49, 1) if weight is None else weight[i].flatten()[:, None].sqrt()
        expected = torch.linalg.lstsq(rows * inputs, rows * outputs).solution.float()
        torch.testing.assert_close(model.slopes[i, :, :, 3, 3], expected[:3].T, atol=2e-3, rtol=1e-3)
        torch.testing.assert_close(model.offset[i, :, 3, 3], expected[3], atol=2e-3, rtol=1e-3)


def test_the_ridge_penalty_shrinks_the_slopes_of_a_known_fit():
    guide = torch.zeros(1, 3, 5, 5)
    guide[:, 0, :, ::2] = 1  # its variance is 6/25 in the first channel, and 0 in the others
    model = fit_linear(2 * guide[:, :1], guide, 5, eps=0.06)
    slopes = model.slopes[0, 0, :, 2, 2].tolist()
    assert slopes == pytest.approx([2 * 0.24 / (0.24 + 0.06), 0, 0], abs=1e-6)
    torch.testing.assert_close(model(guide).mean(), 2 * guide[:, 0].mean(), atol=1e-6, rtol=0)


def test_pixels_without_weight_do_not_count():
    image, guide = noise(1, 1, 9, 9), noise(1, 3, 9, 9, seed=1)
    weight = torch.ones(1, 1, 9, 9)
    weight[..., 5:] = 0
    other = torch.where(weight > 0, guide, 1 - guide)
    found, expected = (fit_linear(image * weight, one, 2, 1e-2, weight) for one in (guide, other))
    torch.testing.assert_close(found.slopes[..., :5], expected.slopes[..., :5])
    assert found.slopes.isfinite().all()


def test_a_linear_change_of_colors_is_taken_over():
    content = 0.2 + 0.6 * noise(1, 3, 48, 64)
    matrix = torch.tensor([[0.8, 0.1, 0.0], [0.0, 0.9, 0.1], [0.1, 0.0, 0.7]])
    recolored = torch.einsum("ij,bjhw->bihw", matrix, content) + 0.05
    torch.testing.assert_close(transfer_colors(recolored, content, eps=1e-7), recolored, atol=2e-3, rtol=0)


def test_texture_is_not_taken_over():
    content = torch.full((1, 3, 64, 64), 0.4)
    content[..., 32:] = 0.6
    stylized = content + 0.1 + 0.2 * (noise(1, 3, 64, 64) - 0.5)
    result = transfer_colors(stylized, content)
    assert (result - content - 0.1).abs().max() < 0.03 < (stylized - content - 0.1).abs().max()
    assert (result[..., 32] - result[..., 31]).mean() == pytest.approx(0.2, abs=0.01), "the edge is as sharp as before"


def test_what_is_not_stylized_stays_and_does_not_dilute_the_rest():
    content = noise(1, 3, 64, 64).mul(255).to(torch.uint8)
    weight = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    weight[..., :32] = 255
    stylized = torch.where(weight > 0, content // 2 + 100, content)
    result = transfer_colors(stylized, content, weight)
    assert result.dtype == torch.uint8
    assert torch.equal(result[..., 32:], content[..., 32:])
    assert (result.int() - stylized.int()).abs()[..., :32].max() <= 12, "up to the ridge penalty"


def test_the_height_of_the_strips_does_not_matter():
    content, stylized = noise(1, 3, 300, 310), noise(1, 3, 300, 310, seed=1)
    results = [transfer_colors(stylized, content, strip=strip) for strip in (37, 300)]
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("sides", [(1, 1), (2, 5), (700, 300)])
def test_any_size(sides):
    content, stylized = noise(1, 3, *sides), noise(1, 3, *sides, seed=1)
    assert transfer_colors(stylized, content).shape == content.shape
    assert torch.equal(transfer_colors(content, content), content), "no change at all"


def test_a_photorealistic_result_has_the_edges_of_the_photo_and_the_mean_color_of_the_result(examples):
    content = photo.to_tensor(photo.resize(reader.read(examples / "content" / "rocket.jpg"), 128))
    method = adain.prepare("adain-lite", "cpu", "fp32")
    code = adain.encode_style(method, noise(1, 3, 64, 64))
    plain = adain.stylize(content, code, method)
    real = adain.stylize(content, code, method, photorealistic=True)
    torch.testing.assert_close(real.mean((2, 3)), plain.mean((2, 3)), atol=0.03, rtol=0)

    def edges(image):
        return image.mean(1).diff(dim=2).flatten()

    def correlation(image):
        return torch.corrcoef(torch.stack([edges(image), edges(content)]))[0, 1]

    assert correlation(real) > 0.9 > correlation(plain)
