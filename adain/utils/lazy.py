"""Attributes of a package that are imported on first use."""

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

from adain.utils.checks import did_you_mean


def lazy_attributes(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the `__getattr__` of a package, which imports an attribute from its module on first use.

    Importing the package, or another module in it, then does not wait for what these modules import.

    Args:
        package: Name of the package.
        modules: The module of each attribute.
    """

    def getattribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}{did_you_mean(name, modules)}")
        return getattr(import_module(modules[name]), name)

    return getattribute


def lazy_names(package: str, names: Iterable[str]) -> Callable[[], list[str]]:
    """Return the `__dir__` of a package: these names, imported or not, but none that only the package itself uses."""
    return lambda: sorted({name for name in vars(sys.modules[package]) if name.startswith("__")} | {*names})
