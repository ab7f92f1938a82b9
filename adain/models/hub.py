"""Weights on the Hugging Face Hub: a model repository with one safetensors file and a model card."""

import re
from pathlib import Path

from adain.utils.errors import shortened

WEIGHTS = "model.safetensors"
"""The file with the weights in a repository."""

CARD = "README.md"
"""The file with the model card in a repository."""

FILE_SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt")
"""Suffixes of files of weights, which are no names of repositories."""


def is_repository(name: str | Path) -> bool:
    """Return whether this can be the name of a repository, such as `user/name`."""
    return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", str(name))) and not str(name).endswith(FILE_SUFFIXES)


def download(name: str, revision: str | None = None) -> Path:
    """Return the path of the weights of a repository, which are downloaded once.

    Args:
        name: the repository, such as `user/name`.
        revision: a branch, a tag, or a commit; by default the newest commit.

    Raises:
        OSError: there are no such weights, or the Hub cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(hf_hub_download(name, WEIGHTS, revision=revision))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        reason = shortened(str(error), 200)
        raise FileNotFoundError(
            f"Expected a file of weights, or a repository with {WEIGHTS} on the Hugging Face Hub, got {name} ({reason})"
        ) from error


def upload(weights: bytes, card: str, name: str, private: bool) -> str:
    """Write weights and their model card to a repository in one commit, and return its address.

    Raises:
        OSError: the Hub refuses this, for example without a login, or cannot be reached.
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
