"""Sweeps: variants of a method from the values of its options."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from adain.evaluation.grid import Variant
from adain.inference.options import override

VARIANT_FIELDS = ("method", "size", "precision")
"""Fields of `Variant` that can vary, besides those of its options and the settings of its method."""

FIXED_OPTIONS = ("style_weight", "mask", "feather", "tile", "max_memory")
"""Style options that cannot vary. gatys has a setting that is called style_weight, too."""


def variations(
    base: Variant,
    vary: Mapping[str, Sequence[Any]],
    cases: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, Any]],
) -> list[Variant]:
    """Return variants of `base`: every combination of the values in `vary`, or each of `cases` by its label.

    Args:
        base: What all variants have in common.
        vary: Values by name: a field of `VARIANT_FIELDS` or `StyleOptions` without `FIXED_OPTIONS`, or a setting of the
            method.
        cases: Values by name, by label.
        settings: Other settings, by method.

    Raises:
        ValueError: Nothing varies, or a value is out of range.
    """
    changes_by_label = dict[str, dict[str, Any]]()
    if vary:
        for values in itertools.product(*vary.values()):
            changes = dict(zip(vary, values, strict=True))
            label = ", ".join(f"{name} {_text(value)}" for name, value in changes.items())
            changes_by_label[label] = changes
    for name, case in cases.items():
        changes_by_label[str(name)] = dict(case)
    if not changes_by_label:
        raise ValueError("Expected values to vary, got none; give some, as in --vary '{optimizer: [lbfgs, adam]}'")
    return [_variation(base, label, changes, settings) for label, changes in changes_by_label.items()]


def _variation(
    base: Variant, label: str, changes: Mapping[str, Any], settings: Mapping[str, Mapping[str, Any]]
) -> Variant:
    changes = {name.replace("-", "_"): value for name, value in changes.items()}
    fields = {name: changes.pop(name) for name in VARIANT_FIELDS if name in changes}
    try:
        options, own_settings = override(base.options, changes, exclude=FIXED_OPTIONS)
    except ValueError as error:
        raise ValueError(f"{label}: {error}") from error
    variant = replace(base, label=label, options=options, **fields)
    return replace(variant, settings={**settings.get(variant.method, {}), **own_settings})


def _text(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)
