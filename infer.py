"""Stylize a picture: `python infer.py --content photo.jpg --style painting.jpg`. The same as `adain stylize`."""

import sys

from adain.cli.main import run
from adain.cli.stylize_command import stylize

if __name__ == "__main__":
    sys.exit(run(stylize, None, "infer.py"))
