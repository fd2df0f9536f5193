#!/bin/bash
# A Slurm array on GPUs, one GPU per task:
#
#   mkdir -p logs
#   sbatch docs/examples/slurm_gpu.sh cifar10-resnet18 --seeds 0,1,2 --amp bf16
#
# All tasks share the folder $RUNS, which every node must see. A task that is killed, or reaches
# its time limit, is replaced by another one; the same sbatch line resumes what is left.
#
#SBATCH --job-name=wash-bench
#SBATCH --array=1-4
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --output=logs/%x-%A_%a.log

set -euo pipefail
RUNS=${RUNS:-runs/gpu}
# The environment: a venv by default. For modules or conda, replace these lines.
# module load cuda
source "${VENV:-.venv}/bin/activate"

nvidia-smi --list-gpus
exec wash-bench run "$@" ${DATA:+--data-dir "$DATA"} --device cuda \
  --threads "${SLURM_CPUS_PER_TASK:-1}" --worker --out "$RUNS"
