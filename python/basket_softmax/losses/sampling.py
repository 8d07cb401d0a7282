"""Partial FC's sample of classes: those of the batch and others drawn uniformly, as a sorted index list.

Source: An et al., "Killing Two Birds with One Stone: Efficient and Robust Training of Face Recognition CNNs
by Partial FC", CVPR 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sample_size(num_classes: int, rate: float, positives: int) -> int:
    """How many of `num_classes` classes take part, as insightface's PartialFC_V2 counts them.

    Args:
        num_classes: C of this process: of the rank's shard where classes are spread over ranks.
        rate: share of the classes, in (0, 1].
        positives: classes among them that have a row in the batch, of all ranks.
    """
    return max(int(rate * num_classes), positives)


# An op, since the number of positives decides the size: `torch.compile` then sees a size that it does not know.
@torch.library.custom_op(
    "basket_softmax::sample_classes", mutates_args=(), tags=[torch.Tag.nondeterministic_seeded]
)
def sample_classes(labels: Tensor, num_classes: int, rate: float, ignore_index: int) -> Tensor:
    """[S] int64, ascending: the classes of the batch, and others up to `sample_size`.

    On the CPU the sample is the one that insightface draws at the same state of torch's generator.

    Args:
        labels: [B] int64 classes or `ignore_index`; labels out of range are left to the loss to report.
        num_classes, rate: as for `sample_size`.
        ignore_index: of rows that take no part.
    """
    inside = (labels != ignore_index) & (labels >= 0) & (labels < num_classes)
    positive = labels[inside].unique()
    size = sample_size(num_classes, rate, len(positive))
    if size > int(rate * num_classes):
        return positive  # and nothing is drawn, as there
    score = torch.rand(num_classes, device=labels.device, dtype=torch.float32)
    score[positive] = 2.0  # above every draw
    return score.topk(size, sorted=False).indices.sort().values


@sample_classes.register_fake
def _(labels: Tensor, num_classes: int, rate: float, ignore_index: int) -> Tensor:
    return labels.new_empty(torch.library.get_ctx().new_dynamic_size())
