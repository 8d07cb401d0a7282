"""Which of pytorch-metric-learning's hooks a subclass may override here.

Upstream makes [B, C] logits step by step, and a subclass may replace any step. The kernels never hold them: hooks that
act on [B] numbers, on W or on the dict of losses are honoured, the others are refused, so that no override is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

Hook = TypeVar("Hook", bound=Callable[..., Any])

_DEFAULTS: dict[str, Any] = {}

_PSI = "modify_cosine_of_target_classes"
# Hooks of upstream that need all cosines, and what to use in their place.
_DENSE = {
    "get_cosine": "map the embeddings before the loss, or the centres in `cast_types`",
    "get_target_mask": "change the labels before the loss",
    "scale_logits": "set the attribute `scale`, a number that may differ from step to step, or take bs.SphereFaceLoss "
    "for scales that are the rows' norms",
}


def default_hook(function: Hook) -> Hook:
    """Decorate the method that a hook has here, so that another in its place is noticed."""
    _DEFAULTS[function.__name__] = function
    return function


def is_default(holder: type | nn.Module, name: str) -> bool:
    """Return whether the class, or this very object, still has the hook's own method."""
    method = getattr(holder, name)
    return getattr(method, "__func__", method) is _DEFAULTS[name]


def refuse_hooks(owner: str, holder: type | nn.Module) -> None:
    """Raise a TypeError if a hook is overridden that the kernels cannot honour; it says what to use.

    Args:
        owner: name of the class, for the message.
        holder: the class when it is created, the loss in a step (methods can be replaced later too).
    """
    refused = {name: instead for name, instead in _DENSE.items() if not is_default(holder, name)}
    if not is_default(holder, "get_angles") and is_default(holder, _PSI):
        refused["get_angles"] = f"override {_PSI}(cosine_of_target_classes), [B] to [B]"
    for name, instead in refused.items():
        raise TypeError(
            f"{owner}.{name}: expected the default, got an override, which would have no effect: the kernels hold no "
            f"batch x classes tensor. Instead, {instead}; or override compute_loss; or keep "
            "pytorch_metric_learning's loss as the base"
        )


def ignored_label(owner: str, cross_entropy: Any) -> int:
    """`ignore_index` of the attribute `cross_entropy`, after a check that nothing else of it was changed.

    Raises:
        TypeError: another module, class weights, label smoothing or a reduction: the kernels make the plain one.
    """
    plain = (
        type(cross_entropy) is nn.CrossEntropyLoss
        and cross_entropy.weight is None
        and cross_entropy.label_smoothing == 0.0
        and cross_entropy.reduction == "none"
    )
    if not plain:
        raise TypeError(
            f"{owner}.cross_entropy: expected CrossEntropyLoss(reduction='none') without weight and label_smoothing, "
            f"got {cross_entropy!r}: the kernels compute the plain cross entropy. For class weights give a "
            "ClassWeightedReducer; for others keep pytorch_metric_learning's loss"
        )
    return int(cross_entropy.ignore_index)
