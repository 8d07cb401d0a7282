"""What stands around a recipe of docs/parallel.md when a test runs it; not imported, see test_recipes.py.

Losses go to losses-<rank>.txt. A run in two parts must write what a run in one part writes.
"""

BEFORE = """
import os
import sys
import torch
import torch.distributed as dist
import basket_softmax as bs
torch.set_num_threads(1)
parts = sys.argv[1]  # "whole", "first" or "second"

class Backbone(torch.nn.Linear):
    def __init__(self):
        super().__init__(20, 16)

g = torch.Generator().manual_seed(0)
pictures, identities = torch.randn(48, 20, generator=g), torch.randint(50, (48,), generator=g)

def write(module, inputs, output):
    if isinstance(module, bs.ArcFaceLoss):
        with open(f"losses-{os.environ['RANK']}.txt", "a") as file:
            print(output.item(), file=file)

torch.nn.modules.module.register_module_forward_hook(write)
"""

LIGHTNING = """
trainer = lightning.Trainer(
    accelerator="cpu", devices=2, strategy="ddp", max_epochs=2 if parts == "first" else 4, logger=False,
    enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, default_root_dir="run",
)
torch.manual_seed(1)
net = Recognizer()
dataset = torch.utils.data.TensorDataset(pictures, identities)
path = "run/first.ckpt"
trainer.fit(net, torch.utils.data.DataLoader(dataset, 6), ckpt_path=path if parts == "second" else None)
if parts == "first":
    trainer.save_checkpoint(path)
backbone = net.backbone
"""

ACCELERATE_BEFORE = """
os.environ["ACCELERATE_USE_CPU"] = "1"
epochs = 2 if parts == "whole" else 1
dataset = torch.utils.data.TensorDataset(pictures.repeat(epochs, 1), identities.repeat(epochs))
loader = torch.utils.data.DataLoader(dataset, 6)
"""

TRANSFORMERS_BEFORE = """
dataset = [{"images": x, "labels": y} for x, y in zip(pictures, identities)]
"""

TRANSFORMERS = """
trainer.train(resume_from_checkpoint="run/checkpoint-8" if parts == "second" else None)
backbone = trainer.model.backbone
"""

AFTER = """
weight = backbone.module.weight if hasattr(backbone, "module") else backbone.weight
every = [torch.empty_like(weight) for _ in range(2)]
dist.all_gather(every, weight.detach())
assert torch.equal(*every), "the backbones differ"
dist.destroy_process_group()
"""
