#!/bin/bash
# Each population shared by the processes of two nodes. Start it on both, with the same arguments:
#
#   HEAD=node0 NODE_RANK=0 docs/examples/torchrun_two_nodes.sh cifar10-resnet18 --population 4
#   HEAD=node0 NODE_RANK=1 docs/examples/torchrun_two_nodes.sh cifar10-resnet18 --population 4
#
# or let Slurm do so:
#
#   srun --nodes 2 --ntasks-per-node 1 docs/examples/torchrun_two_nodes.sh cifar10-resnet18
#
# PROCS is the number of processes (GPUs) of a node. --out must lie where both nodes see it.

set -euo pipefail
if [ -z "${HEAD:-}" ]; then
  HEAD=$(scontrol show hostnames "${SLURM_JOB_NODELIST:?set HEAD to the first node}" | head -n 1)
fi
exec torchrun \
  --nnodes "${NODES:-2}" \
  --nproc-per-node "${PROCS:-1}" \
  --node-rank "${NODE_RANK:-${SLURM_NODEID:?set NODE_RANK to 0 on the first node, 1 on the second}}" \
  --master-addr "$HEAD" \
  --master-port "${PORT:-29500}" \
  -m wash_bench run "$@"
