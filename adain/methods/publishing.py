"""Sharing of methods with their weights on the Hugging Face Hub."""

from pathlib import Path

from safetensors.torch import save

from adain.methods import METHODS, Method, weights
from adain.models import hub

CARD = """---
license: {license}
library_name: adain
pipeline_tag: image-to-image
tags:
- style-transfer
---

# {name}

Weights of the method `{method}` of the Python package adain, for neural style transfer.

```python
import adain

image = adain.stylize("photo.jpg", {style}"{name}")
```

On the command line: `adain stylize photo.jpg{painting} --checkpoint {name}`.
{recipe}"""

RECIPE = """
## Recipe

After {steps} steps of training with these settings:

```yaml
{recipe}
```
"""


def from_pretrained(name: str, revision: str | None = None) -> Method:
    """Load a method with its weights from a repository of the Hugging Face Hub.

    Args:
        name: The repository, such as `user/name`.
        revision: A branch, a tag, or a commit; by default the newest commit.

    Raises:
        ValueError: The file does not contain the weights of a method.
        OSError: There are no such weights, or the Hub cannot be reached.
    """
    return weights.load(hub.download(name, revision))


def push_to_hub(source: Method | str | Path, name: str, license: str, private: bool = False) -> str:
    """Upload a method with its weights and a model card to a repository of the Hugging Face Hub.

    The weights are stored in float16, as by `adain convert`. The account is the one logged in with `hf auth login`.

    Args:
        source: A trained method; or a file of weights, such as the last.ckpt of a run, whose recipe is in the card.
        name: The repository, such as `user/name`, which is created if there is none.
        license: License of the weights, which depends on the training data; in the form of the Hub, such as `mit`,
            `cc-by-nc-4.0`, or `other`.
        private: Create a private repository.

    Returns:
        The address of the repository.

    Raises:
        ValueError: The source has no weights, or weights that do not fit their method, or the license is empty.
        OSError: The file cannot be read, the Hub refuses the upload, or it cannot be reached.
    """
    if not license.strip():
        raise ValueError("Expected a license of the weights, got none; use other if no license of the Hub applies")
    if not isinstance(source, Method):
        state, metadata = weights.read_checked(source)
    elif METHODS.get(source.name) is not type(source):
        raise ValueError(
            f"Expected one of {', '.join(METHODS)}, got {type(source).__name__}, which adain.load cannot load"
        )
    elif source.trained:
        state, metadata = source.state_dict(), weights.metadata(source)
    else:
        raise ValueError(f"Expected a method with weights, got {source.name}, which has none")
    return hub.upload(save(weights.half(state), metadata), model_card(name, license, metadata), name, private)


def model_card(name: str, license: str, metadata: dict[str, str]) -> str:
    """Return the model card of weights, from the metadata of their file."""
    takes_style = METHODS[metadata["method"]].takes_style
    recipe = RECIPE.format(**metadata) if metadata.keys() >= {"steps", "recipe"} else ""
    return CARD.format(
        name=name,
        license=license,
        method=metadata["method"],
        style='"painting.jpg", ' if takes_style else "method=",
        painting=" painting.jpg" if takes_style else "",
        recipe=recipe,
    )
