#!/usr/bin/env bash
# CIFAR-10 by ResNet-20 on one GPU: full precision, STE, DPGC, SURGE in both forms and SURGE on ReCU, side by side, seed after seed.
#
#     DATA=data/cifar10 OUT=work_dirs/cifar10_gpu benchmarks/gpu/cifar10.sh [KEY=VALUE ...]
#
# EPOCHS (200), SEEDS ("0 1 2"), JOBS (6, runs side by side) and PYTHON (python3) may be set too; KEY=VALUE goes to the
# configs.
# Stopped, the same command goes on where it was. OUT ends with table.md, table.json and curves.png.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
data=${DATA:-data/cifar10} out=${OUT:-work_dirs/cifar10_gpu}
epochs=${EPOCHS:-200} seeds=${SEEDS:-0 1 2} jobs=${JOBS:-6} python=${PYTHON:-python3}

if ((epochs < 6)); then
  echo "EPOCHS=$epochs must be at least 6: 5 of them are warm-up" >&2
  exit 2
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
# shellcheck disable=SC2086  # seeds are words
exec "$python" "$root/tools/ablation.py" resnet20_600e_cifar10 --methods ste fp dpgc surge surge-norm surge-recu \
  --seeds $seeds --jobs "$jobs" --work-dir "$out" --cfg-options \
  train_dataloader.dataset.data_root="$data" val_dataloader.dataset.data_root="$data" \
  test_dataloader.dataset.data_root="$data" \
  train_cfg.max_epochs="$epochs" train_cfg.val_interval=5 default_hooks.checkpoint.interval=5 \
  param_scheduler.1.end="$epochs" param_scheduler.1.T_max="$((epochs - 5))" "$@"
