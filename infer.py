"""Stylize a picture: `python infer.py --content photo.jpg --style painting.jpg`. The same as `adain stylize`."""

import sys

from adain.utils.extras import require_dependencies

with require_dependencies():
    from adain.cli.main import run
    from adain.cli.stylize_command import stylize

if __name__ == "__main__":
    sys.exit(run(stylize, None, "infer.py"))
