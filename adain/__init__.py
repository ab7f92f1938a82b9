"""Neural style transfer: any photo in the style of any picture.

    >>> import adain
    >>> image = adain.stylize("photo.jpg", "painting.jpg", alpha=0.8)  # (1, 3, H, W), RGB in [0, 1]
    >>> adain.save(image, "stylized.png")

To load the weights and encode the style once, for any number of photos:

    >>> stylizer = adain.Stylizer("painting.jpg")
    >>> stylizer("photo.jpg").save("stylized.png")  # a Pillow image, which Jupyter displays

Packages, from the lowest to the highest; each imports only from those above it:

    utils        general helpers: errors, checks, files, interrupts, memory, precision
    functional   pure functions of tensors: statistics, normalization, convolutions, color, losses
    imaging      image files to tensors and back
    models       backbones, decoders, and the reading of checkpoint files
    methods      one file for each method, their weights, and style codes
    training     the LightningModule, the data, callbacks, and the command line of training
    inference    one image: options, style encoding, masks, tiling, and the `stylize` pipeline
    batch        folders of images
    augmentation the transform `RandomStyle`, and banks of styles
    video        decoding, temporal smoothing, encoding
    datasets     whole datasets, on one computer or a cluster
    evaluation   metrics, grids, sweeps
    deploy       the web page and ONNX export
    cli          the `adain` command

To see AdaIN from the image to the loss, read five files in this order: `functional/normalization.py`,
`models/backbones.py`, `methods/adain.py`, `functional/losses.py`, and `training/module.py`. Then read
`inference/pipeline.py` for what happens to one photo.
"""

from typing import TYPE_CHECKING

from adain.utils.lazy import lazy_attributes, lazy_names

if TYPE_CHECKING:  # for editors and type checkers, which cannot follow the lazy imports below
    from adain.augmentation.bank_building import build_bank
    from adain.augmentation.random_style import RandomStyle
    from adain.imaging.photo import to_image
    from adain.imaging.reader import load_image, load_picture
    from adain.imaging.writer import save
    from adain.inference.pipeline import stylize
    from adain.inference.preparation import prepare
    from adain.inference.style_encoding import encode_style
    from adain.inference.stylizer import Stylizer
    from adain.methods import METHODS
    from adain.methods.publishing import from_pretrained, push_to_hub
    from adain.methods.weights import load

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "RandomStyle",
    "Stylizer",
    "build_bank",
    "encode_style",
    "from_pretrained",
    "load",
    "load_image",
    "load_picture",
    "prepare",
    "push_to_hub",
    "save",
    "stylize",
    "to_image",
]

_HOMES = {
    "METHODS": "adain.methods",
    "RandomStyle": "adain.augmentation.random_style",
    "Stylizer": "adain.inference.stylizer",
    "build_bank": "adain.augmentation.bank_building",
    "encode_style": "adain.inference.style_encoding",
    "from_pretrained": "adain.methods.publishing",
    "load": "adain.methods.weights",
    "load_image": "adain.imaging.reader",
    "load_picture": "adain.imaging.reader",
    "prepare": "adain.inference.preparation",
    "push_to_hub": "adain.methods.publishing",
    "save": "adain.imaging.writer",
    "stylize": "adain.inference.pipeline",
    "to_image": "adain.imaging.photo",
}

if not TYPE_CHECKING:
    # `adain --help` answers without waiting for torch.
    __getattr__ = lazy_attributes(__name__, _HOMES)
    __dir__ = lazy_names(__name__, _HOMES)
