"""Style transfer methods, one file each. To add a method, write its file and add its name to `METHODS`."""

from adain.methods.adaconv import AdaConv
from adain.methods.adain import AdaIN
from adain.methods.adain_lite import AdaINLite
from adain.methods.base import EncodedContent as EncodedContent
from adain.methods.base import EncoderDecoder as EncoderDecoder
from adain.methods.base import Method as Method
from adain.methods.base import StyleCode as StyleCode
from adain.methods.base import Trainable as Trainable
from adain.methods.gatys import Gatys
from adain.methods.johnson import Johnson
from adain.methods.style_swap import StyleSwap
from adain.methods.wct import WCT

METHODS: dict[str, type[Method]] = {
    "adain": AdaIN,
    "adain-lite": AdaINLite,
    "adaconv": AdaConv,
    "johnson": Johnson,
    "style-swap": StyleSwap,
    "wct": WCT,
    "gatys": Gatys,
}

ITERATIVE = tuple(name for name, kind in METHODS.items() if kind.iterative)
"""Names of the methods that optimize the image in many steps."""
