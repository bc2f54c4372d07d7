"""Time and memory of a training step, as ratios to a binary network written the usual way.

python tools/benchmark_training.py backbone                  # ResNet-18, batch 16, 224 pixels
python tools/benchmark_training.py detector                  # Faster R-CNN R18 FPN, batch 2, 320 pixels
python tools/benchmark_training.py layer --channels 128 --pixels 28
python tools/benchmark_training.py backbone --growth growth.png

The variants, of one structure:
  full precision   real weights and activations
  usual STE        sign and scaled sign as autograd steps of their own, then a convolution
  STE              compensator=None
  naive SURGE      usual STE, a second convolution and a detach, with a fixed scale
  SURGE            compensator=dict(eta=0.1)
  SURGE lite       compensator=dict(eta=0.1, tied=True)
A step is forward, backward and SGD with momentum on random data. One step of each variant in turn; medians.
"""

import argparse
import json
import multiprocessing
import re
from pathlib import Path
from statistics import median

import torch
from mmcv.cnn import build_conv_layer
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

import surge_mm
from surge_mm.analysis.training_cost import (
    Growth,
    exponent,
    interleaved_times,
    plot_growth,
    ratio,
    saved_bytes,
)
from surge_mm.errors import LaunchError
from surge_mm.launch import run
from surge_mm.layers import BinaryLayer
from surge_mm.ops import sign
from surge_mm.registry import MODELS

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
FULL, USUAL, PLAIN, NAIVE, SURGE, LITE = (
    'full precision',
    'usual STE',
    'STE',
    'naive SURGE',
    'SURGE',
    'SURGE lite',
)


class ActivationSign(torch.autograd.Function):
    """Sign with Bi-Real Net's surrogate as a step of its own: it keeps x, and the convolution keeps sign(x)."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * (2 - 2 * x.abs()).clamp(min=0)


class WeightSign(torch.autograd.Function):
    """The scaled sign, straight through."""

    @staticmethod
    def forward(ctx, w):
        return sign(w) * w.abs().mean(dim=(1, 2, 3), keepdim=True)

    @staticmethod
    def backward(ctx, g):
        return g


@MODELS.register_module()
class UsualSTEConv2d(nn.Conv2d):
    """A binary convolution as most code has it."""

    def forward(self, x):
        return self._conv_forward(ActivationSign.apply(x), WeightSign.apply(self.weight), self.bias)


@MODELS.register_module()
class NaiveSurgeConv2d(UsualSTEConv2d):
    """SURGE by its formula: the forward of the branch is computed, and cancels."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.aux_weight = nn.Parameter(self.weight.detach().clone())

    def forward(self, x):
        branch = 0.1 * self._conv_forward(x, self.aux_weight, None)
        return super().forward(x) - branch.detach() + branch


CONVOLUTIONS = {
    FULL: None,
    USUAL: {'type': 'surge_mm.UsualSTEConv2d'},
    PLAIN: {'type': 'surge_mm.SurgeConv2d', 'compensator': None},
    NAIVE: {'type': 'surge_mm.NaiveSurgeConv2d'},
    SURGE: {'type': 'surge_mm.SurgeConv2d', 'compensator': {'eta': 0.1}},
    LITE: {'type': 'surge_mm.SurgeConv2d', 'compensator': {'eta': 0.1, 'tied': True}},
}


class Subject:
    """A model of one variant with its data: ``loss()`` runs it forward, ``step()`` trains it."""

    def __init__(self, what, variant, args):
        torch.manual_seed(0)
        conv_cfg, self.args = CONVOLUTIONS[variant], args
        self.detector = what == 'detector'
        if what == 'layer':
            size = (args.channels, args.channels, 3)
            model = build_conv_layer(conv_cfg, *size, padding=1, bias=False)
        elif what == 'backbone':
            model = MODELS.build(
                {
                    'type': 'SurgeResNet',
                    'depth': args.depth,
                    'base_channels': args.channels,
                    'conv_cfg': conv_cfg,
                    'with_cp': args.with_cp,
                }
            )
        else:
            cfg = Config.fromfile(CONFIGS / '_base_/models/faster-rcnn_surge-r18_fpn.py')
            cfg.model.backbone.update(init_cfg=None, conv_cfg=conv_cfg)
            init_default_scope('mmdet')
            model = ROOT_MODELS.build(cfg.model)
        model = model.to(args.device).train()
        if args.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.model = model
        self.names = [''] if what == 'layer' else inner_convolutions(model)
        self.optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
        self.call = torch.compile(model) if args.compile else model
        self.data = self.make_data(what)

    def make_data(self, what):
        args = self.args
        channels = args.channels if what == 'layer' else 3
        x = torch.randn(args.batch, channels, args.pixels, args.pixels, device=args.device)
        if args.channels_last:
            x = x.to(memory_format=torch.channels_last)
        if what != 'detector':
            return x.requires_grad_(what == 'layer')
        samples = []
        for _ in range(args.batch):
            corners = torch.rand(8, 2, device=args.device) * args.pixels / 2
            boxes = torch.cat([corners, corners + args.pixels / 4], dim=1)
            labels = torch.randint(0, 80, (8,), device=args.device)
            shape = (args.pixels, args.pixels)
            sample = DetDataSample(gt_instances=InstanceData(bboxes=boxes, labels=labels))
            sample.set_metainfo(
                {'img_shape': shape, 'batch_input_shape': shape, 'pad_shape': shape}
            )
            samples.append(sample)
        return {'inputs': x, 'data_samples': samples, 'mode': 'loss'}

    def loss(self):
        torch.manual_seed(0)  # the same regions are sampled for all variants
        with torch.autocast(self.args.device, torch.bfloat16, enabled=self.args.dtype == 'bf16'):
            if self.detector:
                return self.model.parse_losses(self.call(**self.data))[0]
            out = self.call(self.data)
            return (out if torch.is_tensor(out) else out[-1]).square().mean()

    def step(self):
        self.loss().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def inner_convolutions(model):
    """The names of the convolutions that are binary in the binary variants: 3x3 within the backbone's blocks."""
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Conv2d, BinaryLayer))
        and '.conv' in name
        and 'layer' in name
        and module.kernel_size == (3, 3)
    ]


def peak_memory(what, variant, args):
    """Peak memory of two steps in MB: of the device, or of a process of its own."""
    if args.device != 'cpu':
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        subject = Subject(what, variant, args)
        for _ in range(2):
            subject.step()
        return torch.cuda.max_memory_allocated() / 1e6
    with multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(_resident_memory, (what, variant, args))


def _resident_memory(what, variant, args):
    torch.set_num_threads(args.threads)
    MMLogger.get_current_instance().setLevel('ERROR')
    subject = Subject(what, variant, args)
    for _ in range(2):
        subject.step()
    # not ru_maxrss, which a process inherits from the one that started it
    (peak,) = re.findall(r'VmHWM:\s+(\d+) kB', Path('/proc/self/status').read_text())
    return int(peak) * 1024 / 1e6


def compare(args):
    """A row for each variant."""
    subjects = {name: Subject(args.what, name, args) for name in CONVOLUTIONS}
    saved = {
        name: saved_bytes(subject.model, subject.loss, subject.names)
        for name, subject in track(subjects.items(), 'memory kept')
    }
    times = timed(subjects, args)
    del subjects
    peaks = {
        name: peak_memory(args.what, name, args) for name in track(CONVOLUTIONS, 'peak memory')
    }
    return [
        {
            'variant': name,
            'seconds': median(times[name]),
            'time': ratio(times, name, USUAL),
            'saved_binary_MB': saved[name].binary / 1e6,
            'saved_binary': saved[name].binary / saved[USUAL].binary,
            'saved_whole_MB': saved[name].whole / 1e6,
            'saved_whole': saved[name].whole / saved[USUAL].whole,
            'peak_MB': peaks[name],
            'peak': peaks[name] / peaks[USUAL],
            'all_seconds': times[name],
        }
        for name in CONVOLUTIONS
    ]


def timed(subjects, args):
    after = torch.cuda.synchronize if args.device != 'cpu' else lambda: None
    steps = {name: subject.step for name, subject in subjects.items()}
    return interleaved_times(steps, args.steps, args.warmup, after)


def grow(args):
    """The costs of usual STE, STE, SURGE and its lite form along batch, pixels and channels."""
    axes = [('batch', 'batch', [args.batch // 8, args.batch // 4, args.batch // 2, args.batch])]
    sides = sorted({max(args.pixels * i // 4 // 32 * 32, 32) for i in (2, 3, 4)})
    axes.append(('pixels', 'pixels', sides))
    axes.append(('channels', 'channels', [args.channels // 4, args.channels // 2, args.channels]))
    growths = []
    for label, key, sizes in axes:
        sizes = [size for size in sizes if size > 0]
        seconds = {name: [] for name in (USUAL, PLAIN, SURGE, LITE)}
        kept = {name: [] for name in seconds}
        for size in track(sizes, f'growth along {label}'):
            one = argparse.Namespace(**{**vars(args), key: size})
            subjects = {name: Subject(args.what, name, one) for name in seconds}
            times = timed(subjects, one)
            for name, subject in subjects.items():
                seconds[name].append(min(times[name]))
                kept[name].append(saved_bytes(subject.model, subject.loss, subject.names).whole)
        sizes = [size**2 for size in sizes] if key == 'pixels' else sizes
        growths.append(Growth(label, sizes, seconds, kept))
    return growths


def show(rows, title):
    table = Table(title=title)
    table.add_column('variant')
    for column in ('ms a step', 'time', 'saved, binary layers', 'saved, all', 'peak memory'):
        table.add_column(column, justify='right')
    for row in rows:
        table.add_row(
            row['variant'],
            f'{1e3 * row["seconds"]:,.1f}',
            f'{row["time"]:.2f}',
            f'{row["saved_binary_MB"]:,.1f} MB, {row["saved_binary"]:.2f}',
            f'{row["saved_whole_MB"]:,.1f} MB, {row["saved_whole"]:.2f}',
            f'{row["peak_MB"]:,.0f} MB, {row["peak"]:.2f}',
        )
    Console(width=120).print(table)


DEFAULTS = {
    'layer': {'batch': 16, 'pixels': 56, 'channels': 64},
    'backbone': {'batch': 16, 'pixels': 224, 'channels': 64},
    'detector': {'batch': 2, 'pixels': 320, 'channels': 64},
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('what', choices=list(DEFAULTS))
    for name in ('batch', 'pixels', 'channels'):
        parser.add_argument(f'--{name}', type=int)
    parser.add_argument('--depth', type=int, default=18, help='of the backbone; default 18')
    parser.add_argument('--steps', type=int, default=10, help='measured steps; default 10')
    parser.add_argument('--warmup', type=int, default=2, help='steps before them; default 2')
    parser.add_argument('--threads', type=int, default=torch.get_num_threads())
    parser.add_argument('--dtype', choices=['fp32', 'bf16'], default='fp32', help='bf16: autocast')
    parser.add_argument(
        '--device', choices=['cpu', 'cuda'], default='cuda' if torch.cuda.is_available() else 'cpu'
    )
    parser.add_argument(
        '--channels-last', action='store_true', help='memory format of all variants'
    )
    parser.add_argument(
        '--with-cp',
        action='store_true',
        help="recompute the backbone's blocks in the backward pass",
    )
    parser.add_argument('--compile', action='store_true', help='torch.compile each model')
    parser.add_argument(
        '--growth', metavar='PNG', help='measure how the costs grow instead, and draw it'
    )
    parser.add_argument('--json', metavar='FILE', help='also write the figures there')
    args = parser.parse_args()
    for name, value in DEFAULTS[args.what].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    check(args)
    torch.set_num_threads(args.threads)
    MMLogger.get_current_instance().setLevel('ERROR')
    title = f'{args.what}, batch {args.batch}, {args.pixels} pixels, {args.dtype}, {args.device}'
    title += f', {args.threads} threads, torch {torch.__version__}, surge_mm {surge_mm.__version__}'
    if args.growth:
        growths = grow(args)
        answer = [growth._asdict() for growth in growths]
        for growth in growths:
            for what, curves in (('time', growth.seconds), ('memory', growth.bytes)):
                fitted = ', '.join(
                    f'{name} {exponent(growth.sizes, values):.3f}'
                    for name, values in curves.items()
                )
                print(f'exponent of {what} in {growth.axis} {growth.sizes}: {fitted}')
        print(plot_growth(growths, args.growth))
    else:
        answer = compare(args)
        show(answer, title)
    if args.json:
        Path(args.json).write_text(json.dumps({'title': title, 'rows': answer}, indent=1) + '\n')


def check(args):
    """Refuse what cannot be measured, before time is spent."""
    for name in ('batch', 'pixels', 'channels', 'steps', 'threads'):
        if getattr(args, name) < 1:
            raise LaunchError(f'--{name} {getattr(args, name)} must be at least 1')
    if args.warmup < 0:
        raise LaunchError(f'--warmup {args.warmup} must be at least 0')
    if args.device == 'cpu' and not Path('/proc/self/status').is_file():
        raise LaunchError(
            'peak memory is read from /proc, which this system does not have: use Linux'
        )
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise LaunchError('--device cuda: PyTorch sees no GPU here; take --device cpu')
    if args.what != 'layer' and args.pixels < 32:
        raise LaunchError(f'--pixels {args.pixels} must be at least 32 for a {args.what}')
    if args.depth not in (18, 34, 50):
        raise LaunchError(f'--depth {args.depth} must be 18, 34 or 50')
    if args.with_cp and args.what != 'backbone':
        raise LaunchError('--with-cp is for the backbone')
    if args.growth and (args.what == 'detector' or args.batch < 8):
        raise LaunchError('--growth needs a layer or a backbone, and a --batch of at least 8')
    for option in ('growth', 'json'):
        path = getattr(args, option)
        if path and Path(path).is_dir():
            raise LaunchError(f'--{option} {path!r} must be a file, and is a folder')


if __name__ == '__main__':
    run(main, 'nothing was written')
