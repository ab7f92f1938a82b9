"""Stylise a picture: `python infer.py --content photo.jpg --style painting.jpg`. The same as `adain stylize`."""

import sys

from adain.cli import run
from adain.painting import stylize

if __name__ == "__main__":
    sys.exit(run(stylize, None, "infer.py"))
