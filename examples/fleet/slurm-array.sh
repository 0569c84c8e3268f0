#!/bin/bash
# A shard a task of a Slurm array: sbatch --gres=gpu:l4:1 examples/fleet/slurm-array.sh L4
# One array a kind of GPU; the store must lie on a disk that the nodes share. A task that is started
# again goes on where it was.
#SBATCH --job-name=sam-bench
#SBATCH --array=1-8
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=04:00:00
set -euo pipefail

kind=${1:?name the kind of GPU that --gres asks for, such as L4}
shards=8  # as many as --array has, also where one is started again alone
store=${STORE:-$SLURM_SUBMIT_DIR/runs}

sam-bench sweep --config examples/fleet/sweep.toml --gpu "$kind" \
    --shard "$SLURM_ARRAY_TASK_ID/$shards" --parallel 1 --store "$store"
