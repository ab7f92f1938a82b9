import pickle

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

import adain
from adain.augmentation import batch_stylization
from adain.augmentation.bank_building import as_bank
from adain.imaging.photo import to_tensor


def images(count, height=36, width=44, seed=0):
    """Smooth colored images (count, 3, H, W) in [0, 1]."""
    small = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(small, (height, width), mode="bilinear")


def always(**options):
    """A transform that stylizes every image at full strength, in styles of the embedded bank by default."""
    return adain.RandomStyle(1.0, **{"alpha": 1.0, **options})


@pytest.mark.parametrize("name", ["adain-lite", "adain", "adaconv"])
@pytest.mark.parametrize("blend", ["residual", "features"])
def test_each_image_of_a_batch_is_stylized_as_alone(name, blend):
    ready = adain.prepare(name, "cpu", "fp32")
    bank = as_bank(images(3, 40, 40, seed=1), ready)
    contents = images(3)
    code = {key: part.float() for key, part in bank.code.items()}
    alphas = torch.tensor([1, 0.6, 0])
    with torch.no_grad():
        batch = batch_stylization.stylize_batch(ready, contents, code, alphas, residual=blend == "residual")
    for i, alpha in enumerate(alphas.tolist()):
        own = {key: part[i : i + 1] for key, part in code.items()}
        alone = adain.stylize(contents[i : i + 1], own, ready, alpha=alpha, alpha_blend=blend)
        torch.testing.assert_close(batch[i : i + 1], alone, atol=1e-4, rtol=0)
    if blend == "residual":
        torch.testing.assert_close(batch[2], contents[2], atol=1e-5, rtol=0)


def test_large_batches_are_stylized_in_parts(monkeypatch):
    transform = always(alpha=(0, 1))
    torch.manual_seed(0)
    whole = transform(images(5))
    monkeypatch.setattr(batch_stylization, "MAX_PIXELS", 2 * 36 * 44)
    torch.manual_seed(0)
    torch.testing.assert_close(transform(images(5)), whole, atol=1e-5, rtol=0)


KINDS = {
    "rgb": Image.new("RGB", (44, 36), "teal"),
    "gray": Image.new("L", (44, 36), 90),
    "rgba": Image.new("RGBA", (44, 36), (10, 200, 90, 77)),
    "gray-alpha": Image.new("LA", (44, 36), (90, 77)),
    "float": images(1)[0],
    "double": images(2).double(),
    "half": images(2).half(),
    "uint8": (images(2) * 255).byte(),
    "uint16": (images(2) * 65535).to(torch.uint16),
    "one-channel": images(2)[:, :1],
    "image": tv_tensors.Image((images(1)[0] * 255).byte()),
    "video": tv_tensors.Video(images(3)),
    "videos": tv_tensors.Video(images(6).reshape(2, 3, 3, 36, 44)),
    "nested": images(4).reshape(2, 2, 3, 36, 44),
}


@pytest.fixture(scope="module")
def stylize():
    return always()


@pytest.mark.parametrize("kind", KINDS)
def test_type_and_size_are_those_of_the_input(stylize, kind):
    image = KINDS[kind]
    result = stylize(image)
    assert type(result) is type(image)
    if isinstance(image, Image.Image):
        assert (result.size, result.mode) == (image.size, image.mode)
        assert result.tobytes() != image.tobytes()
    else:
        assert (result.shape, result.dtype) == (image.shape, image.dtype)
        assert not torch.equal(result, image)
        assert not result.is_inference()


def test_all_types_give_the_same_image(stylize):
    pixels = torch.randint(0, 256, (3, 36, 44), dtype=torch.uint8)
    forms = [pixels, v2.functional.to_pil_image(pixels), pixels.float() / 255, tv_tensors.Image(pixels)]
    results = []
    for form in forms:
        torch.manual_seed(0)
        result = v2.functional.to_image(stylize(form))
        results.append(v2.functional.to_dtype(result, torch.uint8, scale=True).int())
    for result in results[1:]:
        assert (result - results[0]).abs().max() <= 1


def test_transparency_stays(stylize):
    image = Image.new("RGBA", (40, 40), (10, 200, 90, 77))
    result = stylize(image)
    assert result.getchannel("A").tobytes() == image.getchannel("A").tobytes()


def test_a_gray_image_is_stylized_as_its_rgb_form(stylize):
    gray = images(1)[:, :1]
    torch.manual_seed(0)
    result = stylize(gray)
    torch.manual_seed(0)
    expected = v2.functional.rgb_to_grayscale(stylize(gray.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(result, expected)


def test_everything_else_in_a_sample_stays(stylize):
    sample = {
        "image": tv_tensors.Image(images(1)[0]),
        "boxes": tv_tensors.BoundingBoxes([[1, 2, 9, 9]], format="XYXY", canvas_size=(36, 44)),
        "mask": tv_tensors.Mask(torch.ones(36, 44, dtype=torch.uint8)),
        "label": torch.tensor(3),
        "name": "x.png",
    }
    result = stylize(sample)
    assert not torch.equal(result["image"], sample["image"])
    assert all(result[name] is sample[name] for name in ("boxes", "mask", "label", "name"))
    batch, labels = stylize(images(2), torch.tensor([0, 1]))
    assert labels.tolist() == [0, 1]
    assert not torch.equal(batch, images(2))
    only_boxes = {"boxes": sample["boxes"]}
    assert stylize(only_boxes)["boxes"] is sample["boxes"]


def test_every_image_of_a_batch_has_its_own_style(stylize):
    results = stylize(images(1).expand(4, -1, -1, -1))
    distances = torch.pdist(results.flatten(1))
    assert distances.min() > 1


def test_the_frames_of_a_clip_share_a_style(stylize):
    clips = tv_tensors.Video(images(1).expand(2, 3, 3, 36, 44))
    first, second = stylize(clips)
    for clip in (first, second):
        torch.testing.assert_close(clip, clip[:1].expand_as(clip), atol=1e-5, rtol=0)
    assert (first - second).abs().mean() > 0.01


@pytest.mark.parametrize("form", [tv_tensors.Image, v2.functional.to_pil_image], ids=["tensor", "pillow"])
def test_a_stereo_pair_shares_style_and_strength(form):
    transform = adain.RandomStyle(0.5, (0, 1))
    left = form(images(1)[0])
    changed = 0
    for _ in range(8):
        a, b = (v2.functional.to_image(image) for image in transform(left, form(images(1)[0])))
        torch.testing.assert_close(a, b)
        changed += not torch.equal(a, v2.functional.to_image(left))
    assert 0 < changed < 8


def test_stereo_batches_share_styles_by_position(stylize):
    left, right = (tv_tensors.Image(images(3)) for _ in range(2))
    a, b = stylize(left, right)
    torch.testing.assert_close(a, b)


def test_p_is_the_share_of_images_that_are_stylized():
    batch = images(400, 8, 8)
    result = adain.RandomStyle(0.3, 1.0)(batch)
    unchanged = (result == batch).flatten(1).all(1)
    assert 0.6 < unchanged.float().mean() < 0.8
    assert adain.RandomStyle(0.0)(batch) is batch
    assert not (always()(batch) == batch).flatten(1).all(1).any()


def test_alphas_are_drawn_from_their_range():
    transform = adain.RandomStyle(1.0, (0.2, 0.6))
    alphas = transform.make_params([images(500, 4, 4)])["alphas"]
    assert 0.2 <= alphas.min() < 0.21
    assert 0.59 < alphas.max() <= 0.6


def test_at_alpha_0_the_image_stays_at_any_size():
    batch = images(2)
    torch.testing.assert_close(always(alpha=0.0, size=64)(batch), batch, atol=1e-5, rtol=0)


def test_the_network_works_at_the_given_size(lite):
    image = images(1, 32, 40)
    style = images(1, 40, 40, seed=1)
    result = always(styles=style, size=64, precision="fp32")(image)
    enlarged = torch.nn.functional.interpolate(image, (64, 80), mode="bicubic", antialias=True).clamp(0, 1)
    code = {name: part.half().float() for name, part in adain.encode_style(lite, style).items()}
    stylized = adain.stylize(enlarged, code, lite)
    expected = torch.nn.functional.interpolate(stylized, (32, 40), mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(1, 1), (3, 50), (7, 9)])
def test_tiny_images(stylize, shape):
    assert stylize(images(2, *shape)).shape == (2, 3, *shape)


def test_torchs_seed_determines_the_result():
    transform = adain.RandomStyle(0.5, (0, 1), draw="gaussian")
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(transform(images(8)))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_the_number_of_draws_does_not_depend_on_their_values():
    after = []
    for p in (0.0, 1.0):
        torch.manual_seed(0)
        adain.RandomStyle(p)(images(3, 8, 8))
        after.append(torch.rand(1))
    assert torch.equal(*after)


def test_pickles_contain_the_styles_but_not_the_network(make_picture, lite):
    transform = always(styles=images(2, seed=1))
    transform(images(1))
    data = pickle.dumps(transform)
    assert len(data) < 20_000
    torch.manual_seed(0)
    expected = transform(images(1))
    torch.manual_seed(0)
    assert torch.equal(pickle.loads(data)(images(1)), expected)
    # An instance has weights that are nowhere else.
    instance = always(styles=images(2, seed=1), method=lite)
    torch.manual_seed(0)
    torch.testing.assert_close(pickle.loads(pickle.dumps(instance))(images(1)), expected, atol=2 / 255, rtol=0)


def test_a_pickle_loads_its_network_without_a_draw():
    transform = adain.RandomStyle(0.5)
    copy = pickle.loads(pickle.dumps(transform))
    results = []
    for one in (transform, copy):
        torch.manual_seed(1)
        results.append([torch.equal(one(image), image) for image in images(8)])
    assert results[0] == results[1]
    assert 0 < sum(results[0]) < 8


def test_a_model_that_holds_the_transform_does_not_train_or_save_it():
    transform = always(method=adain.prepare("adain-lite", "cpu"))
    transform(images(1))
    assert not list(transform.parameters())
    assert not transform.state_dict()


def test_the_result_can_be_trained_on(stylize):
    augment = v2.Compose([v2.RandomHorizontalFlip(), stylize, v2.Normalize([0.5] * 3, [0.5] * 3)])
    network = torch.nn.Conv2d(3, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        loss = network(augment(images(2))).float().mean()
    loss.backward()
    assert network.weight.grad.abs().sum() > 0


class Photos(Dataset):
    """Pillow images with the number of threads that the worker has after stylizing."""

    def __init__(self, transform):
        self.transform = transform

    def __len__(self):
        return 4

    def __getitem__(self, index):
        image = Image.fromarray(np.full((24, 32, 3), 60 * index, np.uint8))
        return to_tensor(self.transform(image))[0], torch.get_num_threads()


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # on machines with one core
@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_of_a_loader(start):
    transform = always()
    transform(images(1))  # the network is loaded before workers start
    loader = DataLoader(Photos(transform), 2, num_workers=2, multiprocessing_context=start)
    runs = []
    for _ in range(2):
        torch.manual_seed(0)
        runs.append(list(loader))
    for (first, threads), (second, _) in zip(*runs, strict=True):
        assert torch.equal(first, second)
        assert threads.tolist() == [1, 1]
    assert len({tuple(image.flatten().tolist()) for batch, _ in runs[0] for image in batch}) == 4


def test_wrong_options():
    for options, message in [
        ({"p": 1.5}, "p must be between 0 and 1, got 1.5"),
        ({"alpha": 2}, "alpha must be between 0 .* got 2"),
        ({"alpha": (0.9, 0.1)}, "Expected one alpha, or the lowest and the highest"),
        ({"alpha": ()}, "Expected one alpha, or the lowest and the highest"),
        ({"draw": "gauss"}, "unknown draw gauss; choose from bank, gaussian"),
        ({"alpha_blend": "pixels"}, "unknown alpha_blend pixels"),
        ({"size": 0}, "a size must be at least 1 pixel"),
        ({"method": "gatys"}, "trained for any style, adain-lite, adain, or adaconv, got gatys"),
        ({"method": "johnson"}, "trained for any style, .*, got johnson"),
    ]:
        with pytest.raises(ValueError, match=message):
            adain.RandomStyle(**options)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("P", (8, 8)), "Expected a Pillow image of mode L, LA, RGB, RGBA, got P"),
        (torch.rand(4, 8, 8), r"Expected images \(..., C, H, W\) with 1 or 3 channels, got \(4, 8, 8\)"),
        (
            torch.ones(3, 8, 8, dtype=torch.int64),
            "Expected images in floating point, uint8, or uint16, got torch.int64",
        ),
        (torch.randn(3, 8, 8) * 2, "apply RandomStyle before Normalize"),
        (torch.full((3, 8, 8), torch.nan), r"in \[0, 1\], got values from nan to nan"),
        (torch.rand(8, 8), "with 1 or 3 channels"),
    ],
)
def test_wrong_images(stylize, image, message):
    with pytest.raises(ValueError, match=message):
        stylize(image)


@pytest.mark.gpu
def test_a_batch_on_a_gpu_stays_there():
    transform = always(precision="fp32")
    torch.manual_seed(0)
    expected = transform(images(3))
    torch.manual_seed(0)
    result = transform(images(3).cuda())
    assert result.is_cuda
    torch.testing.assert_close(result.cpu(), expected, atol=0.02, rtol=0)
