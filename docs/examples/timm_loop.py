"""Two timm networks with timm's own loader, optimizer and schedule, coupled by PAPA.

A script in the manner of timm's train.py needs the two lines marked below, once it holds a list
of networks in place of one.
"""

import sys
from pathlib import Path

import timm
import torch
from timm.data import create_dataset, create_loader
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import random_seed

import wash_bench as wb

images = Path(sys.argv[1])  # a folder of class folders
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 10

dataset = create_dataset("", root=str(images))
loaders = []
for member in range(2):
    random_seed(member)  # the order and the augmentation of a member
    loaders.append(
        create_loader(
            dataset, (3, 64, 64), batch_size=32, is_training=True, num_workers=0,
            use_prefetcher=False,
        )
    )  # fmt: skip
classes = len(dataset.reader.class_to_idx)
models = [timm.create_model("test_resnet", num_classes=classes) for _ in loaders]
models[1].load_state_dict(models[0].state_dict())  # a common start
optimizers = [create_optimizer_v2(model, opt="sgd", lr=0.05, momentum=0.9) for model in models]
updates = min(map(len, loaders))
schedulers = [
    create_scheduler_v2(own, num_epochs=epochs, updates_per_epoch=updates, step_on_epochs=False)[0]
    for own in optimizers
]
coupling = wb.Coupling(models, optimizers, "papa", total_steps=epochs * updates)  # first line

step = 0
for _ in range(epochs):
    for batches in zip(*loaders, strict=True):
        step += 1
        for model, optimizer, scheduler, (pixels, labels) in zip(
            models, optimizers, schedulers, batches, strict=True
        ):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(pixels), labels).backward()
            optimizer.step()
            scheduler.step_update(num_updates=step)
        coupling.step()  # second line

torch.save(coupling.predict("average").state_dict(), "average.pth")
print(f"sent {coupling.sent.sent_bytes / 1e6:.1f} MB a member")
