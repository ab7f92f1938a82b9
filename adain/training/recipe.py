"""The recipe in a file of weights: the settings of the run, without what only its machine knows."""

from pathlib import Path
from typing import Any

import yaml

OF_THE_MACHINE = ("config", "default_root_dir", "dirpath", "save_dir")
"""Settings that say where a run wrote or read on its machine, and nothing about how it trained."""


def portable(recipe: str) -> str:
    """The YAML of a run without the paths of its machine.

    Of files and folders only the names are left, `content` of `/home/me/photos/content`. Names of data sets on the
    Hugging Face hub stay whole.
    """
    return yaml.safe_dump(_without_paths(yaml.safe_load(recipe)), sort_keys=False, allow_unicode=True)


def _without_paths(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {key: _without_paths(value) for key, value in settings.items() if key not in OF_THE_MACHINE}
    if isinstance(settings, list):
        return [_without_paths(value) for value in settings]
    if isinstance(settings, str) and _is_path(settings):
        return Path(settings).name
    return settings


def _is_path(text: str) -> bool:
    path = Path(text)
    if path.is_absolute() or text.startswith("~") or ".." in path.parts:
        return True
    try:
        return len(path.parts) > 1 and path.exists()
    except OSError:  # too long for a path
        return False
