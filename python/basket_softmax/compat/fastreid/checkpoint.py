"""The head's entries of a fast-reid checkpoint, out of it and back into it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from torch import Tensor

OWN = ("weight", "bottleneck.", "pool_layer.")


def head_state_dict(checkpoint: Mapping[str, Any], prefix: str = "heads.") -> dict[str, Tensor]:
    """What `EmbeddingHead.load_state_dict` takes, from a whole model's checkpoint.

    Args:
        checkpoint: what `torch.load` gives for a file of fast-reid, {"model": {...}, ...}, or a model's state_dict.
        prefix: where the head is in the model.

    What the metadata of the state_dict says of the head, such as its baskets, comes along.

    Raises:
        KeyError: there is no head of fast-reid 1.3 under the prefix, whose centres are `heads.weight`.
    """
    model = _model(checkpoint)
    if f"{prefix}weight" not in model:
        found = sorted({key.split(".")[0] for key in model})
        raise KeyError(f"checkpoint has no {prefix}weight, the centres of an EmbeddingHead; it has {found}")
    names = (key.removeprefix(prefix) for key in model if key.startswith(prefix))
    head = OrderedDict((name, model[prefix + name]) for name in names if name.startswith(OWN))
    head._metadata = _metadata(model, prefix)  # type: ignore[attr-defined]
    return head


def with_head(
    checkpoint: Mapping[str, Any], head: Mapping[str, Tensor], prefix: str = "heads."
) -> dict[str, Any]:
    """A copy of `checkpoint` with the entries of `head`, a state_dict of `EmbeddingHead`, in their places.

    Raises:
        KeyError: an entry of the head that the checkpoint has not, or the other way round; names them.
    """
    there, here = head_state_dict(checkpoint, prefix).keys(), head.keys()
    if there != here:
        raise KeyError(
            f"the head and {prefix}* of the checkpoint have different entries: only the head has "
            f"{sorted(here - there)}, only the checkpoint {sorted(there - here)}"
        )
    model = {**_model(checkpoint), **{prefix + name: value for name, value in head.items()}}
    return {**checkpoint, "model": model} if "model" in checkpoint else model


def _metadata(model: Mapping[str, Any], prefix: str) -> OrderedDict[str, Any]:
    """What torch keeps beside the tensors, of the modules at `prefix` and below; their names without it."""
    owner = prefix.removesuffix(".")
    found: Mapping[str, Any] = getattr(model, "_metadata", {})
    inner = OrderedDict(
        (key.removeprefix(prefix), value) for key, value in found.items() if key.startswith(prefix)
    )
    if owner in found:
        inner[""] = found[owner]
    return inner


def _model(checkpoint: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = checkpoint.get("model")
    return inner if isinstance(inner, Mapping) else checkpoint
