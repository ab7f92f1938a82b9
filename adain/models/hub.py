"""Weights on the Hugging Face Hub: a model repository with one safetensors file and a model card."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from adain.utils.errors import shortened

WEIGHTS = "model.safetensors"
"""The file with the weights in a repository."""

CARD = "README.md"
"""The file with the model card in a repository."""

FILE_SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt")
"""Suffixes of weight files. A name that ends in one of them is not a repository."""

DATA_SUFFIXES = (".parquet", ".arrow", ".tar", ".tar.gz", ".tgz", ".zip", ".csv", ".json", ".jsonl", ".txt")
"""Suffixes of data files. A name that ends in one of them, or in that of an image, is not a dataset on the Hub."""


def is_repository(name: str | Path) -> bool:
    """Return whether this can be the name of a repository, such as `user/name`."""
    text = str(name)
    is_file = text.lower().endswith(FILE_SUFFIXES) or is_path(text)
    return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text)) and not is_file


def is_path(name: str) -> bool:
    """Return whether this can only be the path of a folder or a file of data, and not the name of a dataset."""
    from PIL import Image

    is_file = name.lower().endswith((*DATA_SUFFIXES, *Image.registered_extensions()))
    return name.startswith((".", "/", "~")) or "\\" in name or is_file


@contextmanager
def only_our_errors() -> Iterator[None]:
    """Hide the warnings of the Hub's libraries, such as one for each retry. Our own error reports the failure."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "datasets")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def download(name: str, revision: str | None = None) -> Path:
    """Return the path of the weights of a repository, which are downloaded once.

    Args:
        name: The repository, such as `user/name`.
        revision: A branch, a tag, or a commit; by default the newest commit.

    Raises:
        OSError: There are no such weights, or the Hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        with only_our_errors():
            return Path(hf_hub_download(name, WEIGHTS, revision=revision))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = shortened(str(error), 200)
        raise FileNotFoundError(
            f"Expected a file of weights, or a repository with {WEIGHTS} on the Hugging Face Hub, got {name} "
            f"(no such file, and none found on the Hub: {reason})"
        ) from error


def upload(weights: bytes, card: str, name: str, private: bool) -> str:
    """Write weights and their model card to a repository in one commit, and return its address.

    Raises:
        OSError: The Hub refuses this, for example without a login, or cannot be reached.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    files = {WEIGHTS: weights, CARD: card.encode()}
    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        operations = [CommitOperationAdd(path, data) for path, data in files.items()]
        api.create_commit(name, operations, commit_message="Upload weights of adain")
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise OSError(f"Cannot upload to {name} on the Hugging Face Hub ({shortened(str(error), 200)})") from error
    return f"{api.endpoint}/{name}"
