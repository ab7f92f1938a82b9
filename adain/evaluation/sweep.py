"""Sweeps: variants of a method from the values of its options."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from adain.evaluation.grid import Variant

SHARED = {field.name for field in fields(Variant)} - {"label", "settings"}  # what varies whatever the method


def variations(
    base: Variant,
    vary: Mapping[str, Sequence[Any]],
    cases: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, Any]],
) -> list[Variant]:
    """Cases that differ from `base`: every combination of the values in `vary`, or each of `cases` by its label.

    Names are fields of `Case`, or else settings of its method, whose other settings are those in `settings`. Raises
    ValueError if there is nothing to vary.
    """
    grid = [dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())] if vary else []
    named = {", ".join(f"{name} {_text(value)}" for name, value in changes.items()): changes for changes in grid}
    named |= {str(label): dict(changes) for label, changes in cases.items()}
    if not named:
        raise ValueError("nothing to vary; give values, as in --vary '{optimizer: [lbfgs, adam]}'")
    found = []
    for label, changes in named.items():
        changes = {name.replace("-", "_"): value for name, value in changes.items()}
        shared = {name: changes.pop(name) for name in SHARED if name in changes}
        case = replace(base, label=label, **shared)
        found.append(replace(case, settings={**settings.get(case.method, {}), **changes}))
    return found


def _text(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
