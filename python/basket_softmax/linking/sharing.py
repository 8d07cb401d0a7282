"""Sharing labels: a row of a linked class is now and then trained under the label of another class of its identity.

So the images of an identity meet the negatives of every basket that has it, and its centres come together.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SharedLabels(nn.Module):
    """The classes of each group, side by side, and draws among them; a module, so that the tables move with its owner.

    Args:
        aliases: [C] int64, on the device of the labels; classes with the same non-negative alias share.
    """

    members: Tensor
    first: Tensor
    count: Tensor
    place: Tensor

    def __init__(self, aliases: Tensor) -> None:
        super().__init__()
        inside = torch.nonzero(aliases >= 0).flatten()
        order = aliases[inside].sort(stable=True)
        members = inside[order.indices]  # [M] group after group
        _, group, count = torch.unique_consecutive(order.values, return_inverse=True, return_counts=True)
        first = count.cumsum(0) - count
        # Of every class: where its group begins, how many there are, its own place; alone: a group of one.
        place = torch.arange(len(members), device=aliases.device) - first[group]
        tables = {
            "members": members,
            "first": torch.zeros_like(aliases).index_copy_(0, members, first[group]),
            "count": torch.ones_like(aliases).index_copy_(0, members, count[group]),
            "place": torch.zeros_like(aliases).index_copy_(0, members, place),
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def draw(self, labels: Tensor, probability: float, generator: torch.Generator) -> Tensor:
        """[B] global labels: each with `probability` one of the *other* classes of its group, drawn uniformly.

        Labels that are no class (an ignore_index) and classes that are alone stay.

        Args:
            labels: [B] int64.
            probability: in [0, 1].
            generator: on the CPU; two numbers per row are drawn whatever the labels are.
        """
        chance, choice = torch.rand(
            (2, len(labels)), generator=generator, dtype=torch.float32, device="cpu"
        ).to(labels.device)
        if len(self.members) == 0:
            return labels
        known = (labels >= 0) & (labels < len(self.count))
        slot = torch.where(known, labels, 0)
        others = self.count[slot] - 1
        step = 1 + (choice * others).long().clamp_max((others - 1).clamp_min(0))
        other = self.members[self.first[slot] + (self.place[slot] + step) % self.count[slot]]
        return torch.where(known & (others > 0) & (chance < probability), other, labels)
