#!/bin/bash
# A Slurm array on GPUs, one GPU per task:
#
#   mkdir -p logs
#   sbatch docs/examples/slurm_gpu.sh cifar10-resnet18 --seeds 0,1,2 --amp bf16
#
# All tasks share the folder $RUNS, which every node must see. Two minutes before its time limit a
# task is told to save, and queues itself again; so does a task that the queue preempts. After a
# kill, the same sbatch line resumes what is left.
#
#SBATCH --job-name=wash-bench
#SBATCH --array=1-4
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --output=logs/%x-%A_%a.log

set -euo pipefail
RUNS=${RUNS:-runs/gpu}
# The environment: a venv by default. For modules or conda, replace these lines.
# module load cuda
source "${VENV:-.venv}/bin/activate"

nvidia-smi --list-gpus
wash-bench run "$@" ${DATA:+--data-dir "$DATA"} --device cuda \
  --threads "${SLURM_CPUS_PER_TASK:-1}" --worker --out "$RUNS" &
trap 'kill -USR1 $!' USR1
code=0
wait $! || code=$?
while kill -0 $! 2> /dev/null; do # the signal ended the wait, and the state is being saved
  code=0
  wait $! || code=$?
done
if [ "$code" -eq 138 ]; then # 128 + USR1: saved
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"
