"""The command that lists what there is: methods, backbones, and embedded weights."""

import re
from collections.abc import Sequence
from pathlib import Path

from adain.cli.stylize_command import SETTINGS


def list_all() -> int:
    """List methods, backbones, and embedded weights with their size and license."""
    from adain.methods import METHODS
    from adain.methods.weights import embedded
    from adain.models.backbones import BACKBONES
    from adain.models.checkpoint_io import CHECKPOINTS

    methods = []
    for name, kind in METHODS.items():
        styles = "any style" if kind.takes_style else "one built-in style"
        origin = f"flags: see --method {name} --help" if name in SETTINGS else f"weights: {embedded(name).name}"
        methods.append((name, styles, origin))
    print("Methods (--method):")
    _print_table(methods)
    backbones = []
    for name, spec in BACKBONES.items():
        backbones.append((name, f"embedded: {spec.embedded}" if spec.embedded else "torchvision's, downloaded once"))
    print("\nBackbones (--gatys.backbone, --model.method.backbone):")
    _print_table(backbones)
    files = []
    for path in sorted(CHECKPOINTS.glob("*.safetensors")):
        files.append((path.name, f"{path.stat().st_size / 1e6:.1f} MB", license_of(path)))
    print(f"\nEmbedded weights, with a model card each, in {CHECKPOINTS}:")
    _print_table(files)
    return 0


def license_of(weights: Path) -> str:
    """Return the license of a file of weights, from the row `license` of the first table in its model card."""
    card = weights.with_suffix(".md")
    row = re.search(r"^\| license \| (.+?) \|$", card.read_text(), re.MULTILINE) if card.is_file() else None
    return row[1].partition(", see [")[0] if row else "not stated"


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
