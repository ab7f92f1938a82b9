"""Style as data augmentation: the transform `RandomStyle`, and banks of pre-encoded styles."""

from typing import TYPE_CHECKING

from adain.utils.lazy import lazy_attributes, lazy_names

if TYPE_CHECKING:  # for editors and type checkers, which cannot follow the lazy imports below
    from adain.augmentation.bank_building import build_bank
    from adain.augmentation.random_style import RandomStyle
    from adain.augmentation.style_bank import StyleBank, load_bank, save_bank

__all__ = ["RandomStyle", "StyleBank", "build_bank", "load_bank", "save_bank"]

_HOMES = {
    "RandomStyle": "adain.augmentation.random_style",
    "StyleBank": "adain.augmentation.style_bank",
    "build_bank": "adain.augmentation.bank_building",
    "load_bank": "adain.augmentation.style_bank",
    "save_bank": "adain.augmentation.style_bank",
}

if not TYPE_CHECKING:
    # Building a bank on the command line does not load torchvision.
    __getattr__ = lazy_attributes(__name__, _HOMES)
    __dir__ = lazy_names(__name__, _HOMES)
