"""Style-transfer methods, one file each. To add one: write the file, add a row to `METHODS`."""

from adain.methods.adain import AdaIN
from adain.methods.base import Method, StyleCode

METHODS: dict[str, type[Method]] = {"adain": AdaIN}

__all__ = ["METHODS", "AdaIN", "Method", "StyleCode"]
