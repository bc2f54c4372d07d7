"""Does it work on a GPU: exact sums, mixed precision, host synchronizations, a detector with COCO evaluation.

python benchmarks/gpu/checks.py --out work_dirs/gpu/checks.json

Each part writes its findings before the next begins. The suite's own tests run there with
``python -m pytest tests/ops tests/layers --device cuda``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from arms import ARMS, build_model
from mmengine.logging import MMLogger
from runner_training import random_cifar_runner
from runs import Epoch, Run, Setting, learning_rates

from surge_mm import SurgeConv2d
from surge_mm.datasets.digits import make_digits

ROOT = Path(__file__).parents[2]
GEOMETRIES = [  # channels in, out, pixels, stride, groups
    (16, 16, 32, 1, 1),
    (16, 32, 32, 2, 1),
    (64, 64, 8, 1, 1),
    (64, 64, 56, 1, 1),
    (64, 128, 56, 2, 1),
    (128, 128, 28, 1, 1),
    (256, 256, 14, 1, 1),
    (512, 512, 7, 1, 1),
    (256, 256, 80, 1, 1),
    (64, 64, 28, 1, 64),
]


def exact_sums(device: str) -> list[dict[str, Any]]:
    """Compare the sums of signs that evaluation gives with whole numbers from the CPU."""
    rows = []
    for tf32, benchmark, last in itertools.product((True, False), repeat=3):
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = tf32, benchmark
        worst, not_whole, wrong = 0.0, 0, 0
        for inputs, outputs, pixels, stride, groups in GEOMETRIES:
            torch.manual_seed(0)
            layer = SurgeConv2d(
                inputs,
                outputs,
                3,
                stride=stride,
                padding=1,
                groups=groups,
                bias=False,
                weight={'type': 'Sign'},
            ).eval()
            x = torch.randn(2, inputs, pixels, pixels)
            with torch.no_grad():
                expected = layer(x)
                memory_format = torch.channels_last if last else torch.contiguous_format
                layer.to(device).to(memory_format=memory_format)
                out = layer(x.to(device, memory_format=memory_format)).cpu()
            error = (out - expected).abs().max().item()
            worst = max(worst, error)
            not_whole += bool((out != out.round()).any())
            wrong += bool(error)
        setting = {'tf32': tf32, 'cudnn.benchmark': benchmark, 'channels_last': last}
        rows.append(
            setting | {'largest error': worst, 'not whole': not_whole, 'layers that differ': wrong}
        )
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = True, False
    return rows


def whole_network(device: str) -> dict[str, float]:
    """Evaluate ResNet-20 on the CPU and on the GPU."""
    torch.manual_seed(0)
    model = build_model(ARMS['SURGE']).eval()
    x = torch.randn(64, 3, 32, 32)
    with torch.no_grad():
        expected = model.head(model.extract_feat(x))
        scores = model.to(device)
        got = scores.head(scores.extract_feat(x.to(device))).cpu()
    return {
        'largest difference of scores': (got - expected).abs().max().item(),
        'largest score': expected.abs().max().item(),
        'same class, %': 100 * (got.argmax(1) == expected.argmax(1)).float().mean().item(),
    }


def gradients(device: str) -> list[dict[str, Any]]:
    """Return the error of a layer's gradients, relative to float64 on the CPU, by precision."""
    torch.manual_seed(0)
    settings = {'padding': 1, 'compensator': {'eta': 0.1}, 'dtype': torch.float64}
    layer = SurgeConv2d(64, 64, 3, **settings)
    x, g = torch.randn(8, 64, 28, 28).double(), torch.randn(8, 64, 28, 28).double()

    def all_of(layer: SurgeConv2d, x: torch.Tensor, autocast: Any) -> list[torch.Tensor]:
        leaf = x.clone().requires_grad_()
        layer.zero_grad()
        with autocast:
            out = layer(leaf)
        out.backward(g.to(out))
        found = (leaf.grad, layer.weight.grad, layer.aux_weight.grad)
        return [grad.detach().double().cpu() for grad in found]

    expected = all_of(layer, x, torch.autocast('cpu', enabled=False))
    layer.float().to(device)
    x = x.float().to(device)
    rows = []
    for name, dtype, tf32 in (
        ('float32', None, False),
        ('TF32', None, True),
        ('bfloat16', torch.bfloat16, True),
        ('float16', torch.float16, True),
    ):
        torch.backends.cudnn.allow_tf32 = tf32
        autocast = torch.autocast(device, dtype, enabled=dtype is not None)
        errors = [
            ((got - want).norm() / want.norm()).item()
            for got, want in zip(all_of(layer, x, autocast), expected, strict=True)
        ]
        rows.append({'precision': name} | dict(zip(('x', 'W_b', 'W_a'), errors, strict=True)))
    torch.backends.cudnn.allow_tf32 = True
    return rows


def mixed_precision(device: str) -> list[dict[str, Any]]:
    """Twenty steps on one batch under autocast, with GradScaler for float16."""
    rows = []
    for dtype in (None, torch.bfloat16, torch.float16):
        torch.manual_seed(0)
        model = build_model(ARMS['SURGE']).to(device).train()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
        x = torch.randn(64, 3, 32, 32, device=device)
        y = torch.arange(64, device=device) % 10
        losses = []
        for _ in range(20):
            with torch.autocast(device, dtype, enabled=dtype is not None):
                scores = model.head(model.extract_feat(x))
                loss = F.cross_entropy(scores.float(), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            losses.append(loss.item())
        layers = [m for m in model.modules() if isinstance(m, SurgeConv2d)]
        non_finite = sum(layer.ags_statistics[-1].item() for layer in layers)
        rows.append(
            {'dtype': str(dtype), 'losses': [losses[0], losses[-1]], 'left out': non_finite}
        )
    return rows


def step_without_host(device: str) -> dict[str, Any]:
    """Run a step of layers and optimizer in the mode that raises at a host synchronization."""
    images = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8, device=device)
    epoch = Epoch(images, torch.arange(512, device=device) % 10, seed=0)
    run = Run(ARMS['SURGE'], epoch, learning_rates(10, 1), Setting(device, graph=False))
    run.prepare()
    torch.cuda.set_sync_debug_mode('error')
    try:
        run.step()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return {'host synchronizations': 0}


def synchronizations_of_training(device: str) -> list[dict[str, Any]]:
    """Count the host synchronizations of an iteration of MMEngine's Runner, by the line that asks for them."""
    rows = []
    for guard in (True, False):
        counts: dict[str, int] = {}

        def count(message: Any, category: Any, file: str, line: int, *_: Any) -> None:
            if 'synchronizing' in str(message):
                where = f'{Path(file).name}:{line}'
                counts[where] = counts.get(where, 0) + 1  # noqa: B023  used within the iteration

        runner = random_cifar_runner('SURGE', iterations=60, guard=guard)
        shown, warnings.showwarning = warnings.showwarning, count
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            runner.train()
        finally:
            torch.cuda.set_sync_debug_mode('default')
            warnings.showwarning = shown
            warnings.resetwarnings()
        an_iteration = {where: n / 60 for where, n in counts.items() if n >= 6}
        rows.append({'guard': guard, 'an iteration': an_iteration})
    return rows


DETECTOR = """
_base_ = [
    'surge_mm::_base_/models/faster-rcnn_r18_fpn.py',
    'surge_mm::_base_/datasets/digits_coco.py',
    'surge_mm::_base_/schedules/digits_10e.py',
    'surge_mm::_base_/default_runtime.py',
    'surge_mm::_base_/methods/surge.py',
]
model = dict(
    backbone=dict(init_cfg=None, conv_cfg={{{{_base_.conv_cfg}}}}),
    roi_head=dict(bbox_head=dict(num_classes=10)),
)
train_cfg = dict(max_epochs=10, val_interval=10)
default_hooks = dict(logger=dict(interval=8))
train_dataloader = dict(dataset=dict(data_root={root!r}))
val_dataloader = dict(dataset=dict(data_root={root!r}))
val_evaluator = dict(ann_file={root!r} + '/annotations/val.json')
test_dataloader = val_dataloader
test_evaluator = val_evaluator
"""


def detector(device: str) -> list[dict[str, Any]]:
    """Train Faster R-CNN for 80 steps and evaluate it by COCO's metric, with and without --amp."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        make_digits(f'{folder}/digits', train=64, val=16)
        config = Path(folder) / 'faster_rcnn.py'
        config.write_text(DETECTOR.format(root=f'{folder}/digits'))
        for amp in ([], ['--amp']) if device == 'cuda' else ([],):
            command = [sys.executable, str(ROOT / 'tools/train.py'), str(config), *amp]
            command += ['--work-dir', f'{folder}/work{len(rows)}']
            done = subprocess.run(command, capture_output=True, text=True)
            said = (done.stdout + done.stderr).splitlines()
            kept = [line for line in said if 'bbox_mAP:' in line or 'loss:' in line][-4:]
            rows.append(
                {'options': amp, 'returned': done.returncode, 'log': kept}
                | ({'end': said[-8:]} if done.returncode else {})
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or '').partition('\n')[0])
    parser.add_argument('--out', type=Path, required=True, help='the JSON file')
    parser.add_argument('--device', default='cuda', choices=['cpu', 'cuda'])
    args = parser.parse_args()
    if args.out.exists():
        parser.error(f'--out {str(args.out)!r} exists already: name another file')
    MMLogger.get_current_instance().setLevel('ERROR')
    parts: list[Callable[[str], Any]] = [
        exact_sums,
        whole_network,
        gradients,
        mixed_precision,
        detector,
    ]
    if args.device == 'cuda':
        parts += [step_without_host, synchronizations_of_training]
    card = torch.cuda.get_device_name() if args.device == 'cuda' else 'CPU'
    answer: dict[str, Any] = {'card': card, 'torch': torch.__version__}
    for part in parts:
        started = time.monotonic()
        try:
            answer[part.__name__] = part(args.device)
        except Exception as error:
            answer[part.__name__] = f'{type(error).__name__}: {error}'
        took = time.monotonic() - started
        print(f'{part.__name__}, {took:.1f} s: {json.dumps(answer[part.__name__])}', flush=True)
        args.out.write_text(json.dumps(answer, indent=1) + '\n')


if __name__ == '__main__':
    main()
