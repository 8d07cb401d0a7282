"""insightface's files of any number of ranks, cut as its PartialFC_V2 cuts, into heads of one basket or several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import basket_softmax as bs
from basket_softmax.checkpoint.insightface import copy_rows
from basket_softmax.checkpoint.ranks import Place
from basket_softmax.compat.insightface import CombinedMarginLoss, PartialFC_V2
from bbs_kernels.sharding import Sharding

CLASSES, WIDTH = 97, 12
Error = bs.checkpoint.CheckpointError


def cut(full: torch.Tensor, world: int) -> list[torch.Tensor]:
    """num_local and class_start of insightface's PartialFC_V2."""
    parts, start = [], 0
    for rank in range(world):
        rows = CLASSES // world + int(rank < CLASSES % world)
        parts.append(full[start : start + rows].clone())
        start += rows
    return parts


class Original:
    """A run there: one process stands for its ranks, whose files are its tensors, cut."""

    def __init__(self, optimizer: str) -> None:
        torch.manual_seed(0)
        self.backbone = nn.Linear(WIDTH, WIDTH)
        self.head = PartialFC_V2(CombinedMarginLoss(64, 1.0, 0.0, 0.4), WIDTH, CLASSES)
        groups = [{"params": self.backbone.parameters()}, {"params": self.head.parameters()}]
        self.optimizer = {
            "sgd": lambda: torch.optim.SGD(groups, lr=0.1, momentum=0.9, weight_decay=5e-4),
            "plain": lambda: torch.optim.SGD(groups, lr=0.1),
            "adamw": lambda: torch.optim.AdamW(groups, lr=1e-3),
        }[optimizer]()
        for seed in range(3):
            torch.manual_seed(seed)
            self.optimizer.zero_grad()
            self.head(self.backbone(torch.randn(16, WIDTH)), torch.randint(0, CLASSES, (16,))).backward()
            self.optimizer.step()

    def files(self, folder: Path, world: int, whole: bool = True) -> list[Path]:
        paths = []
        for rank, weight in enumerate(cut(self.head.weight.detach(), world)):
            if whole:
                saved = self.optimizer.state_dict()
                own = dict(saved["state"].get(2, {}))
                own.update(
                    {
                        k: cut(v, world)[rank]
                        for k, v in own.items()
                        if isinstance(v, torch.Tensor) and v.dim() == 2
                    }
                )
                content = {
                    "epoch": 4,
                    "global_step": 3,
                    "state_dict_backbone": self.backbone.state_dict(),
                    "state_dict_softmax_fc": {"weight": weight},
                    "state_optimizer": {**saved, "state": {**saved["state"], 2: own}},
                    "state_lr_scheduler": {"last_epoch": 3, "base_lrs": [0.1, 0.1]},
                }
                paths.append(folder / f"checkpoint_gpu_{rank}.pt")
            else:
                content = {"weight": weight}
                paths.append(folder / f"softmax_fc_gpu_{rank}.pt")
            torch.save(content, paths[-1])
        return paths


@pytest.mark.parametrize("baskets", [[CLASSES], {"a": 31, "b": 0, "c": 66}])
@pytest.mark.parametrize("world", [1, 2, 3, 8, 12])
@pytest.mark.parametrize("whole", [True, False])
def test_centres_of_any_number_of_ranks(tmp_path: Path, baskets: object, world: int, whole: bool) -> None:
    there = Original("sgd")
    there.files(tmp_path, world, whole)
    head = bs.BasketSoftmaxLoss(baskets, WIDTH)
    others = bs.checkpoint.load_insightface(tmp_path, head)
    assert torch.equal(head.weight, there.head.weight)
    assert others.get("epoch") == (4 if whole else None)


@pytest.mark.parametrize("optimizer", ["sgd", "plain", "adamw"])
def test_training_goes_on(tmp_path: Path, optimizer: str) -> None:
    there = Original(optimizer)
    files = there.files(tmp_path, 3)
    backbone, head = nn.Linear(WIDTH, WIDTH), bs.CosFaceLoss(CLASSES, WIDTH, 0.4)
    mine = type(there.optimizer)([*backbone.parameters(), *head.parameters()], lr=1.0)
    others = bs.checkpoint.load_insightface(files[::-1], head, mine)
    backbone.load_state_dict(others["state_dict_backbone"])
    theirs = there.optimizer.state[there.head.weight]
    for key, value in mine.state[head.weight].items():
        assert torch.equal(value, theirs[key]), key
    assert {k for k, v in theirs.items() if v is not None} == set(mine.state[head.weight])
    assert mine.param_groups[0]["lr"] == 1.0, "settings stay the optimiser's own"
    torch.testing.assert_close(
        head(backbone(torch.ones(1, WIDTH)), torch.tensor([3])),
        there.head(there.backbone(torch.ones(1, WIDTH)), torch.tensor([3])),
    )


@pytest.mark.parametrize("kind", ["basket", "contiguous"])
def test_every_rank_takes_its_own_rows(kind: str) -> None:
    full = torch.randn(CLASSES, WIDTH)
    sharding = Sharding((31, 0, 66), 5, kind)
    for rank in range(5):
        target = torch.zeros(sharding.num_local(rank), WIDTH)
        copy_rows(cut(full, 7), target, Place(sharding, rank))
        assert torch.equal(target, torch.cat([full[start:stop] for start, stop in sharding.ranges(rank)]))


def refused(source: object, message: str, **options: object) -> None:
    head = bs.BasketSoftmaxLoss(options.pop("baskets", [CLASSES]), WIDTH)
    optimizer = (
        torch.optim.SGD(head.parameters(), lr=1.0, momentum=0.9) if options.pop("optimizer", 0) else None
    )
    before = head.weight.detach().clone()
    with pytest.raises(Error, match=message):
        bs.checkpoint.load_insightface(source, head, optimizer)
    assert torch.equal(head.weight, before)


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    there = Original("sgd")
    files = there.files(tmp_path, 4)
    refused(files, "4 files hold 97 classes of width 12 together, wanted are 98 of width 12", baskets=[98])
    refused(files[:3], "3 files hold 73 classes .*: is a file of a later rank missing")
    refused(files[:1] + files[2:], "files of the ranks 1 are missing")
    refused([tmp_path / "model.pt"], "model.pt is not called checkpoint_gpu_N.pt or softmax_fc_gpu_N.pt")
    refused(tmp_path / "nowhere", "has neither")
    there.files(tmp_path, 4, whole=False)
    refused(tmp_path, "give a list of those you mean")
    only = tmp_path / "only"
    only.mkdir()
    refused(there.files(only, 2, whole=False), "holds no 'state_optimizer'", optimizer=True)


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    path = Original("sgd").files(tmp_path, 1)[0]
    path.write_bytes(path.read_bytes()[:1000])
    refused(tmp_path, "cannot be read with weights_only=True")
    torch.save({"state_dict_softmax_fc": nn.Linear(2, 2)}, path)
    refused(tmp_path, "cannot be read with weights_only=True")
    torch.save({"state_dict_softmax_fc": {"kernel": torch.zeros(97, 12)}}, path)
    refused(tmp_path, r"holds no 'weight' \[num_local, D\]")
    torch.save([torch.zeros(97, 12)], path)
    refused(tmp_path, "expected a dict, got a list")
