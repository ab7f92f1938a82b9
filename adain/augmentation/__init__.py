"""Style as data augmentation: the transform `RandomStyle`, and banks of pre-encoded styles."""

from adain.utils.lazy import lazy_attributes

_HOMES = {
    "RandomStyle": "adain.augmentation.random_style",
    "StyleBank": "adain.augmentation.style_bank",
    "build_bank": "adain.augmentation.bank_building",
    "load_bank": "adain.augmentation.style_bank",
    "save_bank": "adain.augmentation.style_bank",
}
__all__ = sorted(_HOMES)

# Building a bank on the command line does not load torchvision.
__getattr__ = lazy_attributes(__name__, _HOMES)
