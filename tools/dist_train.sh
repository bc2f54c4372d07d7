#!/usr/bin/env bash
# Trains with several processes on this machine: nccl with a GPU each, gloo without GPUs.
# Usage: tools/dist_train.sh CONFIG PROCESSES [arguments of train.py]
# On a single machine a free port is chosen, unless PORT is set. Several machines: set NNODES, NODE_RANK, MASTER_ADDR and
# PORT as for torchrun.
set -euo pipefail
if (($# < 2)) || ! [[ $2 =~ ^[1-9][0-9]*$ ]]; then
  echo "usage: $0 CONFIG PROCESSES [arguments of train.py]" >&2
  exit 2
fi
config=$1 processes=$2
shift 2
source "$(dirname "${BASH_SOURCE[0]}")/_python.sh"
source "$tools/_port.sh"
exec "$python" -m torch.distributed.run --nnodes="${NNODES:-1}" --node_rank="${NODE_RANK:-0}" \
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="$port" --nproc_per_node="$processes" \
  "$tools/train.py" "$config" --launcher pytorch "$@"
