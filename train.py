"""Train a style transfer network: `python train.py fit --config configs/adain.yaml`, the same as `adain train`."""

import sys

from adain.utils.extras import require_dependencies

with require_dependencies():
    from adain.cli.main import train

if __name__ == "__main__":
    sys.exit(train())
