"""One member per process: torchrun --nproc-per-node 2 torchrun_loop.py."""

import torch
import torch.distributed as dist
from torch import nn

import wash_bench as wb

STEPS = 200

dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
rank = dist.get_rank()
device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")

torch.manual_seed(0)  # a common start, and the same data everywhere
inputs = torch.randn(2_000, 8, device=device)
targets = torch.sin(inputs[:, :1]) * inputs[:, 1:2]
model = nn.Sequential(nn.Linear(8, 64), nn.GELU(), nn.Linear(64, 1)).to(device)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
coupling = wb.Coupling([model], [optimizer], "wash", p=0.05, total_steps=STEPS, distributed=True)

torch.manual_seed(rank)  # batches of its own
for _ in range(STEPS):
    batch = torch.randint(len(inputs), (64,), device=device)
    optimizer.zero_grad()
    nn.functional.mse_loss(model(inputs[batch]), targets[batch]).backward()
    optimizer.step()
    coupling.step()

average = coupling.predict("average")  # every rank calls it
if rank == 0:
    error = nn.functional.mse_loss(average(inputs), targets).item()
    print(f"average {error:.4f}, sent {coupling.sent.sent_bytes / 1e3:.0f} kB a member")
dist.destroy_process_group()
