"""FusedSGD as the one optimiser of a Lightning module, which passes a closure to every step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import basket_softmax as bs

lightning = pytest.importorskip("lightning", reason="not installed: lightning")

CLASSES, WIDTH = 50, 16


class HeadOnly(lightning.LightningModule):
    """A head on embeddings that are there already."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = bs.ArcFaceLoss(CLASSES, WIDTH)
        self.fused, self.values = fused, []

    def training_step(self, batch: list[Tensor], _: int) -> Tensor:
        value = self.head(*batch)
        self.values.append(value.item())
        return value

    def configure_optimizers(self) -> torch.optim.Optimizer:
        settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
        if self.fused:
            return bs.optim.FusedSGD(self.head, **settings)
        return torch.optim.SGD([self.head.weight], **settings)


def test_lightning_trains_with_the_bits_of_torch_sgd(tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(0)
    data = torch.utils.data.TensorDataset(
        torch.randn(48, WIDTH, generator=g), torch.randint(CLASSES, (48,), generator=g)
    )
    results = []
    for fused in (True, False):
        module = HeadOnly(fused)
        trainer = lightning.Trainer(
            accelerator="cpu", devices=1, max_epochs=2, logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, torch.utils.data.DataLoader(data, 12))
        results.append((module.values, module.head.weight.detach()))
    assert len(results[0][0]) == 8
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])
