#!/usr/bin/env bash
# Trains under Slurm: one process a GPU, or one a task on CPU partitions (GPUS_PER_NODE=0).
# Usage: [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=4] [SRUN_ARGS=...] tools/slurm_train.sh PARTITION JOB CONFIG [arguments of train.py]
set -euo pipefail
if (($# < 3)); then
  echo "usage: $0 PARTITION JOB CONFIG [arguments of train.py]" >&2
  exit 2
fi
partition=$1 job=$2 config=$3
shift 3
gpus=${GPUS:-8} per_node=${GPUS_PER_NODE:-8}
tasks_per_node=$((per_node > 0 ? per_node : gpus))
resources=(--ntasks="$gpus" --ntasks-per-node="$tasks_per_node" --cpus-per-task="${CPUS_PER_TASK:-4}")
((per_node > 0)) && resources+=(--gres="gpu:$per_node")
source "$(dirname "${BASH_SOURCE[0]}")/_python.sh"
# shellcheck disable=SC2086  SRUN_ARGS holds several words on purpose
exec srun -p "$partition" --job-name="$job" "${resources[@]}" --kill-on-bad-exit=1 ${SRUN_ARGS:-} \
  "$python" -u "$tools/train.py" "$config" --launcher slurm "$@"
