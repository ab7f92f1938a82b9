"""Style-transfer methods, one file each. To add one: write the file, add a row to `METHODS`."""

from adain.methods.adain import AdaIN
from adain.methods.adain_lite import AdaINLite
from adain.methods.base import Method, StyleCode, Trainable
from adain.methods.gatys import Gatys

METHODS: dict[str, type[Method]] = {"adain": AdaIN, "adain-lite": AdaINLite, "gatys": Gatys}

__all__ = ["METHODS", "AdaIN", "AdaINLite", "Gatys", "Method", "StyleCode", "Trainable"]
