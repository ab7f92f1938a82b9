"""The recipe in a file of weights: the settings of a run without the paths of its machine."""

from pathlib import Path
from typing import Any

import yaml

MACHINE_SETTINGS = ("config", "default_root_dir", "dirpath", "save_dir")
"""Settings that name where a run reads or writes, and do not affect how it trains."""


def portable(recipe: str) -> str:
    """Return the YAML configuration of a run without the paths of its machine.

    Only the names of files and folders remain, such as `content` of `/home/me/photos/content`. Names of datasets on the
    Hugging Face Hub are preserved.
    """
    return yaml.safe_dump(_without_paths(yaml.safe_load(recipe)), sort_keys=False, allow_unicode=True)


def _without_paths(settings: Any) -> Any:
    if isinstance(settings, dict):
        return {key: _without_paths(value) for key, value in settings.items() if key not in MACHINE_SETTINGS}
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
