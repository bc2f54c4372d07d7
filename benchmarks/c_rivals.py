"""Compare an exported C file with other runtimes: size, memory, time from the start to the first result, network time.

python benchmarks/c_rivals.py CONFIG CHECKPOINT image.jpg
python benchmarks/c_rivals.py CONFIG CHECKPOINT image.jpg --runs 9 --json rivals.json

The others run the same network with real convolutions (surge_mm.models.to_float): ncnn in fp32 and in fp16, converted
by pnnx; ONNX Runtime and OpenVINO in INT8, quantized as by tools/benchmark_inference.py --against. Their packages, and
pnnx, must be installed: pip install -r requirements/rivals.txt. Linux only, with a C compiler.

Each run is a fresh process on one thread; the programs take turns, and medians are reported. The C program reads the
picture from a PPM file, resizes it, and prints boxes. Its time to the first result is that to its end. The others are
called from Python with a normalized image, and stop at the maps: Python, and NumPy, without which they are not called,
have a row of their own. OpenVINO has its cache of compiled models. Network: CPU time, of C through ctypes. Library: the
shared libraries of the runtime that the process has loaded, without Python and NumPy.
"""

import argparse
import copy
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import torch
from benchmark_cases.c_model import NAME, exported, nothing_preloaded
from mmengine.registry import init_default_scope
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

from surge_mm.analysis.timing import cpu_name
from surge_mm.checkpoint.checked import load_checked
from surge_mm.datasets.evaluation_set import dataset_meta
from surge_mm.deploy import pack
from surge_mm.deploy.c.companions import Companions
from surge_mm.deploy.c.compile import compile_program
from surge_mm.deploy.onnx.int8_engines import ENGINES, TensorsOf, require_engines
from surge_mm.deploy.predict.image_input import ImageInput
from surge_mm.launch.calibration_set import CalibrationSet
from surge_mm.launch.cli import Parser, add_settings, run
from surge_mm.launch.config import load_config
from surge_mm.launch.output_files import add_json, check_output
from surge_mm.launch.runner import build_model
from surge_mm.models import to_float
from surge_mm.utils.atomic_write import write_json

CASES = Path(__file__).resolve().parent / 'benchmark_cases'
PNNX = Path(sys.executable).with_name('pnnx')
COLUMNS = (
    'model, kB',
    'library, kB',
    'peak memory, MB',
    'start to first result, ms',
    'network, ms',
)


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path of the config of a detector')
    parser.add_argument('checkpoint', help='path of its checkpoint')
    parser.add_argument('image', help='file of an image')
    parser.add_argument('--runs', type=int, default=7, help='processes of each kind; default 7')
    parser.add_argument('--repeats', type=int, default=20, help='networks of each; default 20')
    add_json(parser)
    parser.add_argument('--folder', help='keep the files of the models here, and use those there')
    add_settings(parser)
    args = parser.parse_args()
    check_output(args, 'json', '.json')
    require_engines(list(ENGINES))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(args.folder or temporary).resolve()
        if not (folder / 'commands.json').exists():
            folder.mkdir(exist_ok=True)
            commands = prepare(args, folder)
            (folder / 'commands.json').write_text(json.dumps(commands))
        commands = json.loads((folder / 'commands.json').read_text())
        figures = measure(commands, folder, args.runs)
    table = Table(title=f'{Path(args.config).stem}, one thread, {cpu_name()}')
    for column in ('', *COLUMNS):
        table.add_column(column, justify='right' if column else 'left')
    for name, row in figures.items():
        cells = (
            '' if value is None else f'{value:,.3g}' if value < 1000 else f'{value:,.0f}'
            for value in row
        )
        table.add_row(name, *cells)
    Console(width=120).print(table)
    if args.json:
        write_json(args.json, {'columns': COLUMNS, **figures})


def prepare(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Write all models and programs, and return for each name its command and the files of its model."""
    cfg = load_config(args)
    init_default_scope(cfg.default_scope)
    model: Any = build_model(cfg)
    load_checked(model, args.checkpoint)
    model.cfg, model.dataset_meta = cfg, dataset_meta(cfg)
    model.eval()
    calibration = list(track(CalibrationSet(cfg), 'calibration images'))
    picture = cv2.imread(args.image)
    cv2.imwrite(str(folder / 'picture.ppm'), picture)
    x = ImageInput(model).prepare(picture)[0].contiguous()
    np.save(folder / 'input.npy', x.numpy())
    real = to_float(copy.deepcopy(model)).eval()

    def in_python(runtime: str, path: Path) -> list[str]:
        words = [sys.executable, str(CASES / 'first_maps.py'), runtime, str(path)]
        return [*words, str(folder / 'input.npy'), str(args.repeats)]

    commands: dict[str, Any] = {}
    for dtype in ('float32', 'int8'):
        (folder / dtype).mkdir(exist_ok=True)
        packed = pack(copy.deepcopy(model), dtype, calibration if dtype == 'int8' else None)
        packed.cfg = cfg
        library = exported(packed, folder / dtype, None)
        c_file = folder / dtype / f'{NAME}.c'
        note = f'{library.made.memory} {library.number_of_maps}'
        c_file.with_suffix('.txt').write_text(note)
        companions = Companions(c_file, with_main=True)
        companions.write(library.made)
        program = folder / dtype / NAME
        with nothing_preloaded():
            compile_program([c_file, folder / dtype / f'{NAME}_main.c'], program)
        commands[f'C, {dtype}'] = [str(program), str(folder / 'picture.ppm')], [str(program)]
        commands[f'network in C, {dtype}'] = in_python('c', c_file.with_suffix('.so')), []
    for dtype, option in (('fp32', 'fp16=0'), ('fp16', 'fp16=1')):
        path = ncnn_files(real, x, folder, dtype, option)
        files = [f'{path}.param', f'{path}.bin']
        commands[f'ncnn {dtype}'] = in_python(f'ncnn-{dtype}', path), files
    with torch.no_grad():
        tensors = [real.data_preprocessor(batch)['inputs'] for batch in calibration]
    for name, engine in ENGINES.items():
        path = engine(real, tensors).save(folder)
        weights = path.with_suffix('.bin')
        files = [str(path), *([str(weights)] if weights.exists() else [])]
        commands[engine.title] = in_python(name, path), files
    commands['Python and NumPy'] = in_python('none', folder), []
    with torch.no_grad():
        largest = sorted(float(one.abs().max()) for one in TensorsOf(real)(x))
    return {'largest': largest, 'commands': commands}


def ncnn_files(model: nn.Module, x: torch.Tensor, folder: Path, dtype: str, option: str) -> Path:
    """Convert a network by pnnx, and return the path of its two files without their suffix."""
    path = folder / f'ncnn_{dtype}'
    model = copy.deepcopy(model)
    seen: set[nn.Module] = set()
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if module in seen:  # of several levels: pnnx leaves layers with shared weights unconverted
            parent, _, child = name.rpartition('.')
            setattr(model.get_submodule(parent), child, copy.deepcopy(module))
        seen.add(module)
    with torch.no_grad():
        torch.jit.trace(TensorsOf(model), x, check_trace=False).save(folder / 'traced.pt')
    shape = str(list(x.shape)).replace(' ', '')
    words = [str(PNNX), 'traced.pt', f'inputshape={shape}', option]
    words += [f'ncnnparam={path}.param', f'ncnnbin={path}.bin']
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return path


def measure(prepared: dict[str, Any], folder: Path, runs: int) -> dict[str, list[float | None]]:
    """Run all programs in turns, and return the row of each."""
    launcher = folder / 'launch'
    with nothing_preloaded():
        compile_program([CASES / 'launch.c'], launcher)
    commands, found = prepared['commands'], {name: [] for name in prepared['commands']}
    for number in range(runs + 1):  # the first run reads the files
        for name, (command, _) in commands.items():
            done = subprocess.run([str(launcher), *command], capture_output=True, text=True)
            if done.returncode:
                sys.exit(f'{name} failed: {done.stderr}')
            *printed, times = done.stdout.strip().splitlines()
            start, end, peak = map(float, times.split())
            said = (
                {}
                if name.startswith('C')
                else json.loads(printed[-2] if not printed[-1] else printed[-1])
            )
            if number:
                first = said.get('first', end) - start
                found[name].append((peak * 1.024e-3, 1e3 * first, said.get('network'), said))
            elif said.get('largest'):
                print(
                    f'{name}: largest numbers of the maps, by those of the float network: '
                    + ' '.join(
                        f'{a / b:.3f}'
                        for a, b in zip(said['largest'], prepared['largest'], strict=True)
                    )
                )
    rows = {}
    for name, (_, files) in commands.items():
        peak, first, *_ = (median(one[i] for one in found[name]) for i in range(2))
        network = [one[2] for one in found[name] if one[2]]
        rows[name] = [
            sum(Path(file).stat().st_size for file in files) / 1e3 or None,
            (found[name][0][3].get('libraries') or 0) / 1e3 or None,
            peak,
            first,
            1e3 * median(network) if network else None,
        ]
    for dtype in ('float32', 'int8'):
        rows[f'C, {dtype}'][4] = rows.pop(f'network in C, {dtype}')[4]
    return rows


if __name__ == '__main__':
    run(main, 'nothing was written')
