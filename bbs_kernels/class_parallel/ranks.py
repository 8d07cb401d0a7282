"""The ranks that share the classes, and the collectives that a step needs: thin calls of torch.distributed.

A batch is the rows of rank 0, then those of rank 1, …; every rank may bring another number of rows, also none.
torch.distributed wants equal pieces, so ragged ones are padded here and cut again; callers never see the padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from .agreement import disagreement, fingerprint
from .lost_rank import explained

# torch 2.13 has new names for these two and warns at the old ones.
_all_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
_reduce_scatter = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor


_PROBLEM = 2  # in the flags of a rank, beside 1 for "wants the gradient"


class Pending:
    """A result on its way: `wait()` returns it."""

    def __init__(self, ranks: Ranks, work: Any, out: Tensor) -> None:
        self.rank, self.world = ranks.rank, ranks.world
        self._work, self._out = work, out

    @explained("the exchange of candidates")
    def wait(self) -> Tensor:
        if self._work is not None:
            self._work.wait()
        return self._out


class RowCounts(NamedTuple):
    """counts: rows that each rank brings. wanted: whether any rank wants the gradient of its rows."""

    counts: tuple[int, ...]
    wanted: bool


class Ranks:
    """A process group with the collectives over rows.

    Args:
        group: a `ProcessGroup`, or a `DeviceMesh` of one dimension.

    Raises:
        TypeError, ValueError: something else, or a mesh of several dimensions.
        RuntimeError: this process is not in the group.
    """

    def __init__(self, group: Any) -> None:
        if not dist.is_available() or not dist.is_initialized():
            raise RuntimeError(
                "process_group came before torch.distributed.init_process_group: call that first"
            )
        from torch.distributed.device_mesh import DeviceMesh

        if isinstance(group, DeviceMesh):
            if group.ndim != 1:
                raise ValueError(
                    f"process_group: expected a mesh of 1 dimension, mesh['name'], got one of {group.ndim}"
                )
            group = group.get_group()
        if not isinstance(group, dist.ProcessGroup):
            raise TypeError(
                f"process_group: expected a ProcessGroup or a DeviceMesh, got {type(group).__name__}"
            )
        self.group = group
        self.rank, self.world = dist.get_rank(group), dist.get_world_size(group)

    def __deepcopy__(self, memo: dict) -> Ranks:
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            "a class-parallel head cannot be pickled, its process group belongs to this process: save state_dict()"
        )

    def row_counts(
        self,
        rows: int,
        wanted: bool,
        device: torch.device,
        problem: Exception | None = None,
        *,
        common: Mapping[str, Any],
    ) -> RowCounts:
        """What every rank brings. Reading it waits for the device: the one host synchronisation of a step.

        Args:
            problem: what is wrong with this rank's arguments. It is then raised on every rank, or the others would go
                on to a collective that this one never joins.
            common: what must be the same on every rank, by name.

        Raises:
            RuntimeError: `common` is not the same on every rank; raised on all of them.
        """
        flags = int(wanted) + _PROBLEM * (problem is not None)
        found = self._exchanged(torch.tensor([rows, flags, fingerprint(common)], device=device))
        source = next((rank for rank, (_, flags, _) in enumerate(found) if flags & _PROBLEM), None)
        if source is not None:
            kind, text = self._told(problem, source)
            raise kind(f"rank {source} of {self.world}: {text}") from problem
        self._refuse_different(common, [number for *_, number in found])
        return RowCounts(tuple(n for n, *_ in found), any(flags for _, flags, _ in found))

    def _refuse_different(self, common: Mapping[str, Any], fingerprints: Sequence[int]) -> None:
        if len(set(fingerprints)) > 1:
            raise RuntimeError(disagreement(self._all_words({n: repr(value) for n, value in common.items()})))

    @explained("the exchange of an error")
    def _all_words(self, words: dict[str, str]) -> list[dict[str, str]]:
        every: list[dict[str, str]] = [{}] * self.world
        dist.all_gather_object(every, words, group=self.group)
        return every

    @explained("the exchange of batch sizes")
    def _exchanged(self, mine: Tensor) -> list[list[int]]:
        every = mine.new_empty(len(mine) * self.world)
        _all_gather(every, mine, group=self.group)
        return every.view(self.world, len(mine)).tolist()

    @explained("the exchange of an error")
    def _told(self, problem: Exception | None, source: int) -> tuple[type[Exception], str]:
        """Type and text of the problem of rank `source`, on every rank."""
        told: list[Any] = [None]
        if problem is not None and self.rank == source:
            told = [(type(problem), str(problem.args[0]))]  # str(KeyError) would put it in quotes
        dist.broadcast_object_list(told, group=self.group, group_src=source)
        return told[0]

    @explained("the gathering of rows")
    def gather_rows(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """[counts[rank], …] of every rank as [B, …]."""
        most, shape = max(counts), rows.shape[1:]
        out = rows.new_empty((self.world * most, *shape))
        if out.numel():
            _all_gather(out, _padded(rows, most).contiguous(), group=self.group)
        if min(counts) == most:
            return out
        return torch.cat([out[r * most : r * most + n] for r, n in enumerate(counts)])

    @explained("the sum of the gradients")
    def sum_own_rows(self, rows: Tensor, counts: Sequence[int]) -> Tensor:
        """[B, …] of every rank, added up, of which each rank gets its own rows [counts[rank], …]."""
        most, own = max(counts), counts[self.rank]
        if rows.device.type == "cpu":
            # Gloo's reduce-scatter is an all-reduce, with twice the bytes; nor does an exchange need equal pieces.
            parts = rows.new_empty((self.world * own, *rows.shape[1:]))
            if rows.numel():
                sizes = [own] * self.world, list(counts)
                dist.all_to_all_single(parts, rows.contiguous(), *sizes, group=self.group)
            return parts.view(self.world, own, *rows.shape[1:]).sum(0)
        if min(counts) != most:
            rows = torch.cat([_padded(part, most) for part in rows.split(list(counts))])
        out = rows.new_empty((most, *rows.shape[1:]))
        if out.numel():
            _reduce_scatter(out, rows.contiguous(), group=self.group)
        return out[:own]

    @explained("the exchange of candidates")
    def send_rows_home(self, rows: Tensor, counts: Sequence[int]) -> Pending:
        """[B, …] of every rank to the ranks that own the rows: each gets [world, counts[rank], …]. Asynchronous."""
        own = counts[self.rank]
        out = rows.new_empty((self.world * own, *rows.shape[1:]))
        work = None
        if max(counts) and rows[0].numel():
            work = dist.all_to_all_single(
                out, rows.contiguous(), [own] * self.world, list(counts), group=self.group, async_op=True
            )
        return Pending(self, work, out.view(self.world, own, *rows.shape[1:]))

    @explained("the sum over ranks")
    def all_reduce(self, values: Tensor, op: Any = dist.ReduceOp.SUM) -> Tensor:
        """`values` of all ranks reduced, in place; the same on every rank."""
        if values.numel():
            dist.all_reduce(values, op, group=self.group)
        return values

    @explained("a broadcast")
    def broadcast(self, values: Tensor, source: int) -> Tensor:
        """`values` of rank `source` of the group, in place."""
        if values.numel():
            dist.broadcast(values, group=self.group, group_src=source)
        return values


def _padded(rows: Tensor, length: int) -> Tensor:
    missing = length - rows.shape[0]
    return rows if missing == 0 else torch.cat([rows, rows.new_zeros((missing, *rows.shape[1:]))])
