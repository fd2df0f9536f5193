#!/bin/bash
# A Slurm array that works off one experiment:
#
#   sbatch docs/examples/slurm_array.sh fashion-mnist --seeds 0,1,2
#
# All tasks share the folder $RUNS, which every node must see, and take trainings from it until all
# are done; the last one writes the report. What a task that is killed was at is taken by another at
# once, and the same sbatch line goes on with what is left.
#
# Without a shared folder: sbatch --export=ALL,SHARDS=1 ... gives each task its own share and its
# own folder, $RUNS-1, $RUNS-2, ...; copy them together and run `wash-bench report $RUNS-*`.
#
#SBATCH --job-name=wash-bench
#SBATCH --array=1-4
#SBATCH --cpus-per-task=4
#SBATCH --time=04:00:00

set -euo pipefail
RUNS=${RUNS:-runs/sweep}
# Results are the same bits only at equal thread counts.
THREADS=${SLURM_CPUS_PER_TASK:-1}

if [ -n "${SHARDS:-}" ]; then
  share=$((SLURM_ARRAY_TASK_ID - ${SLURM_ARRAY_TASK_MIN:-1} + 1))
  exec wash-bench run "$@" --threads "$THREADS" \
    --shard "$share/$SLURM_ARRAY_TASK_COUNT" --out "$RUNS-$share"
fi
exec wash-bench run "$@" --threads "$THREADS" --worker --out "$RUNS"
