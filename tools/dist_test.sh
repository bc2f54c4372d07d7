#!/usr/bin/env bash
# Evaluates with several processes on this machine: nccl with a GPU each, gloo without GPUs.
# Usage: tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of test.py]
# On a single machine a free port is chosen, unless PORT is set. Several machines: set NNODES, NODE_RANK, MASTER_ADDR and
# PORT as for torchrun.
set -euo pipefail
if (($# < 3)) || ! [[ $3 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 CONFIG CHECKPOINT PROCESSES [arguments of test.py]" >&2
  exit 2
fi
config=$1 checkpoint=$2 processes=$3
shift 3
source "$(dirname "${BASH_SOURCE[0]}")/_python.sh"
source "$tools/_port.sh"
exec "$python" -m torch.distributed.run --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="$port" --nproc_per_node="$processes" \
  "$tools/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
