"""Some steps of training in bf16 on the device: a plain loop under autocast, then `bbs train` from image files.

The command needs packages that a machine may lack; the loop needs none.
"""

from __future__ import annotations

import csv
import importlib.util
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

import basket_softmax as bs

from .device import Device
from .facts import ROOT
from .sheet import Sheet

NEEDED = ("click", "pydantic", "yaml", "rich", "PIL")
IDENTITIES, IMAGES, BATCH = 10, 8, 16
CONFIG = """\
baskets: {{one: one, two: two}}
output: run
image: {{size: 32}}
backbone:
  factory: "basket_softmax.training.backbones:iresnet"
  embedding_size: 32
  args: {{layers: [1, 1, 1], width: 8}}
loss: {{mining: {{name: topk, k: 4}}, scale: 16}}
optimizer: {{name: adamw, lr: 0.005}}
batch_size: {batch}
epochs: {epochs}
amp: bf16
device: {device}
workers: 0
log: {{every_steps: 1, tensorboard: false}}
"""
COMMAND = "from basket_softmax.cli import main; main()"


def run(sheet: Sheet, device: Device) -> None:
    losses = loop(device, device.sizes.train_steps)
    sheet.put("loop", {"steps": len(losses), "losses": [losses[0], losses[-1]]})
    if not losses[-1] < losses[0]:  # NaN too
        sheet.fail(f"the loss of a loop in bf16 went from {losses[0]} to {losses[-1]}")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        sheet.skip(f"not installed: {', '.join(missing)}")
        return
    steps = device.sizes.train_steps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder)
        an_epoch = 2 * IDENTITIES * IMAGES // BATCH
        config = CONFIG.format(batch=BATCH, epochs=-(-steps // an_epoch), device=device.name)
        (folder / "run.yaml").write_text(config, encoding="utf-8")
        command = [sys.executable, "-c", COMMAND, "train", str(folder / "run.yaml")]
        done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        print(done.stdout, flush=True)
        if done.returncode:
            lines = done.stdout.strip().splitlines() or ["nothing was printed"]
            sheet.fail(f"bbs train: exit status {done.returncode}: {lines[-1]}")
            return
        with (folder / "run" / "metrics.csv").open(encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    losses = [float(row["loss"]) for row in rows]
    sheet.put("command", {"steps": int(rows[-1]["step"]), "losses": [losses[0], losses[-1]]})
    if int(rows[-1]["step"]) < steps or not all(map(math.isfinite, losses)):
        sheet.fail(f"bbs train: {rows[-1]['step']} steps, losses {losses[0]} to {losses[-1]}")


def loop(device: Device, steps: int) -> list[float]:
    """Losses of a linear network under autocast, whose inputs are noisy pictures of their classes."""
    generator = torch.Generator(device.name).manual_seed(0)
    classes = torch.randn(40, 64, generator=generator, device=device.name)
    network = torch.nn.Linear(64, 32).to(device.name)
    head = bs.BasketSoftmaxLoss([20, 20], 32, bs.ArcFace(0.2), 16.0, bs.TopK(4)).to(device.name)
    optimizer = torch.optim.AdamW([*network.parameters(), *head.parameters()], lr=0.02)
    losses = []
    for _ in range(steps):
        labels = torch.randint(40, (64,), generator=generator, device=device.name)
        noise = torch.randn(64, 64, generator=generator, device=device.name)
        with torch.autocast(device.name, torch.bfloat16):
            loss = head(network(classes[labels] + 0.3 * noise), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [float(loss) for loss in losses]


def write_images(folder: Path) -> None:
    """Two baskets of random pictures, a folder for each identity."""
    from support.pictures import encoded

    number = 0
    for basket in ("one", "two"):
        for identity in range(IDENTITIES):
            for image in range(IMAGES):
                path = folder / basket / f"id{identity}" / f"{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encoded(number, (32, 32)))
                number += 1
