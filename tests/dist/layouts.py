"""What each rank does in test_checkpoint_layouts: rows without a head, in a group of one to four ranks."""

from __future__ import annotations

import re
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Shard, distribute_tensor

import basket_softmax as bs
from basket_softmax import Baskets
from basket_softmax.checkpoint import CheckpointError
from basket_softmax.checkpoint.manifest import Manifest
from basket_softmax.checkpoint.ranks import Place
from basket_softmax.checkpoint.store import Contents, open_checkpoint, read_objects, read_rows, write
from bbs_kernels.resharding import exchange
from bbs_kernels.sharding import KINDS, Sharding

BASKETS = Baskets({"a": 31, "b": 17, "none": 0, "c": 1, "d": 2, "e": 48})
LAYOUTS = [(world, kind) for world in range(1, 5) for kind in KINDS]


def full_rows() -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return {
        "weight": torch.randn(BASKETS.num_classes, 6, generator=draw),
        "optimizer.exp_avg": torch.randn(BASKETS.num_classes, 6, generator=draw, dtype=torch.float64),
        "optimizer.row_var": torch.randn(BASKETS.num_classes, 1, generator=draw).bfloat16(),
    }


def places(group: dist.ProcessGroup) -> list[Place]:
    """This rank's place under both kinds of shard."""
    rank, world = dist.get_rank(group), dist.get_world_size(group)
    return [Place(Sharding(BASKETS.sizes, world, kind), rank, group) for kind in KINDS]


def mine(place: Place, full: Tensor) -> Tensor:
    return torch.cat([full[start:stop] for start, stop in place.sharding.ranges(place.rank)])


def save_all(group: dist.ProcessGroup, folder: str) -> None:
    """One checkpoint per kind of shard."""
    for place in places(group):
        rows = {name: mine(place, tensor) for name, tensor in full_rows().items()}
        path = Path(folder, f"{place.world}-{place.sharding.kind}")
        write(path, place, Contents(BASKETS, rows, {"extra": {"by": place.rank}}))


def load_all(group: dist.ProcessGroup, folder: str) -> None:
    """What every number of ranks saved under either kind, under both kinds."""
    full = full_rows()
    for place in places(group):
        for world, kind in LAYOUTS:
            path = Path(folder, f"{world}-{kind}")
            rows = {name: torch.zeros_like(mine(place, tensor)) for name, tensor in full.items()}
            with open_checkpoint(path, place, lambda _: None) as manifest:
                assert (manifest.world, manifest.kind) == (world, kind)
                assert len(manifest.files) == world + 1
                read_rows(path, place, manifest, BASKETS, rows)
                assert read_objects(path, place, manifest, "extra") == {"extra": {"by": 0}}
            for name, tensor in full.items():
                assert torch.equal(rows[name], mine(place, tensor)), (name, world, kind, place.sharding)


def save_rows(group: dist.ProcessGroup, folder: str) -> None:
    """The weight alone."""
    place = places(group)[0]
    write(Path(folder), place, Contents(BASKETS, {"weight": mine(place, full_rows()["weight"])}, {}))


def as_dtensor(group: dist.ProcessGroup, folder: str) -> None:
    """Read by stock DCP into a DTensor over all ranks of the group."""
    mesh = DeviceMesh.from_group(group, "cpu")
    (data,) = Path(folder).glob("data-*")
    state = {"weight/e": distribute_tensor(torch.zeros(48, 6), mesh, [Shard(0)])}
    dcp.load(state, checkpoint_id=data, process_group=group)
    assert torch.equal(state["weight/e"].full_tensor(), full_rows()["weight"][-48:])


def errors_are_shared(group: dist.ProcessGroup, folder: str) -> None:
    """What only one rank can see is an error on all of them, and nobody waits."""
    place = places(group)[0]
    rank = place.rank
    rows = {"weight": mine(place, full_rows()["weight"])}
    write(Path(folder), place, Contents(BASKETS, rows, {"extra": None}))
    manifest = opened(folder, place)
    expect(
        place,
        lambda: write(Path(folder), place, Contents(BASKETS, rows, {"extra": expect})),
        "extra: expected tensors",
    )
    short = {"weight": rows["weight"][: -1 if rank == 2 else None]}
    expect(
        place,
        lambda: write(Path(folder), place, Contents(BASKETS, short, {})),
        "rank 2: tensor: expected shape",
    )
    narrow = {"weight": rows["weight"][:, : 5 if rank == 1 else None].clone()}
    expect(
        place,
        lambda: read_rows(Path(folder), place, manifest, BASKETS, narrow),
        "rank 1: 'weight/.' has shape",
    )
    if rank == 0:
        (path,) = Path(folder).glob("data-*/__3_0.distcp")
        path.write_bytes(path.read_bytes()[:-1])
    dist.barrier(group)
    expect(place, lambda: opened(folder, place), "__3_0.distcp has .* bytes")


def a_folder_for_each(group: dist.ProcessGroup, folder: str) -> None:
    """Ranks that save to different paths are refused; what rank 0's folder held stays."""
    place = places(group)[0]
    contents = Contents(BASKETS, {"weight": mine(place, full_rows()["weight"])}, {"extra": 1})
    common, own = Path(folder) / "0", Path(folder) / str(place.rank)
    write(common, place, contents)
    before = opened(common, place).data
    expect(place, lambda: write(own, place, contents), "rank 1: folder: expected one that all ranks share")
    assert opened(common, place).data == before
    assert place.rank == 0 or not own.exists()
    write(common, place, contents)
    assert opened(common, place).data != before


def an_optimizer_on_one_rank(group: dist.ProcessGroup, folder: str) -> None:
    """Ranks that bring other optimisers to save or load are refused, on every rank."""
    place = places(group)[0]
    head = bs.BasketSoftmaxLoss(BASKETS, 6, process_group=group)
    trained = torch.optim.SGD([head.weight], lr=0.1, momentum=0.9)
    mine = trained if place.rank == 1 else None
    said = "optimizer: expected the same kind on all ranks, got None on rank 0 and SGD on rank 1"
    expect(place, lambda: bs.checkpoint.save(folder, head, mine), said)
    bs.checkpoint.save(folder, head, trained)
    expect(place, lambda: bs.checkpoint.load(folder, head, mine), said)
    bs.checkpoint.load(folder, head, trained)


def opened(folder: str, place: Place) -> Manifest:
    with open_checkpoint(Path(folder), place, lambda _: None) as manifest:
        return manifest


def expect(place: Place, step: object, message: str) -> None:
    """The same CheckpointError on every rank."""
    try:
        step()  # type: ignore[operator]
    except CheckpointError as error:
        said = str(error)
    else:
        said = "no error"
    said_by: list[str] = [""] * place.world
    dist.all_gather_object(said_by, said, group=place.group)
    assert re.search(message, said), said
    assert set(said_by) == {said}


def rows_move(group: dist.ProcessGroup) -> None:
    """exchange() between both kinds, and to layouts with further baskets: every row, every dtype."""
    for place in places(group):
        old = place.sharding
        for kind in KINDS:
            for more in ((), (29,), (0, 1)):
                new = Sharding((*BASKETS.sizes, *more), place.world, kind)
                for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool):
                    full = (torch.arange(old.num_classes * 3).view(-1, 3) % 7).to(dtype)
                    grown = torch.cat([full, full.new_zeros(sum(more), 3)])
                    moved = exchange(mine(place, full), old, new, place.rank, group)
                    assert torch.equal(moved, mine(Place(new, place.rank), grown)), (old, new, dtype)
