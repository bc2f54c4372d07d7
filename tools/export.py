"""Export a trained model for inference: a packed file with one bit per binary weight, a C file, or an ONNX file.

python tools/export.py my_config.py work_dirs/my_config/epoch_12.pth detector.safetensors
python tools/export.py my_config.py work_dirs/my_config/epoch_12.pth detector.safetensors --real int8
python tools/export.py my_config.py work_dirs/my_config/epoch_12.pth detector.onnx --shape 320 320
python tools/export.py my_config.py work_dirs/my_config/epoch_12.pth detector.c --with-main
python tools/export.py my_config.py work_dirs/my_config/epoch_12.pth detector.so --target aarch64-linux-gnu

tools/test.py evaluates a packed file, tools/detect.py draws its detections, surge_mm.deploy.load_packed loads it.
"""

import argparse
import copy
import shlex
import sys
import tempfile
from pathlib import Path

from mmengine.config import Config
from rich.progress import track
from torch import Tensor, nn

import surge_mm  # noqa: F401  prepares the stack before the hosts are imported
from surge_mm.analysis.complexity import model_size
from surge_mm.analysis.plots import METRICS
from surge_mm.analysis.tables import wide_console
from surge_mm.checkpoint.checked import load_checked
from surge_mm.datasets.evaluation_set import dataset_meta, image_size
from surge_mm.deploy import load_packed, pack, save_packed, strip
from surge_mm.deploy.c.companions import SUFFIXES as COMPILED
from surge_mm.deploy.c.companions import WASM, Companions
from surge_mm.deploy.c.compile import THREADS
from surge_mm.deploy.c.export import SUFFIX as C
from surge_mm.deploy.c.export import check_largest, check_name, export_c
from surge_mm.deploy.packed_file.config_policy import classes_to_allow
from surge_mm.deploy.packed_file.format import read_packed
from surge_mm.deploy.packed_file.save_load import SUFFIX
from surge_mm.deploy.packed_file.size_report import sizes_of
from surge_mm.deploy.packed_file.tables import (
    describe,
    table_of_layers,
    table_of_real,
    table_of_sizes,
    table_of_unfused,
)
from surge_mm.deploy.packed_file.trial_run import (
    outputs_on_image,
    run_and_compare,
    trial_input_name,
)
from surge_mm.deploy.real_layers.convert import FLOAT32, REAL
from surge_mm.launch.calibration_set import DEFAULT_COUNT, CalibrationSet
from surge_mm.launch.cli import Parser, add_settings, check_least, run
from surge_mm.launch.config import load_config
from surge_mm.launch.resume import check_checkpoint
from surge_mm.launch.runner import build_model
from surge_mm.launch.validation_set import ValidationSet
from surge_mm.layers import BinaryLayer
from surge_mm.layers.memory_format import to_channels_last
from surge_mm.models.binarization.layer_candidates import base_class_names
from surge_mm.utils.atomic_write import write_atomically
from surge_mm.utils.errors import LaunchError, describe_error
from surge_mm.utils.files import check_new_file

ONNX = '.onnx'
DEFAULT_SIZE = (224, 224)
"""Height and width of the image of the trial run, if the test pipeline does not set them."""


def main() -> None:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='path of a config file')
    parser.add_argument('checkpoint', help='path or address of a checkpoint')
    parser.add_argument(
        'out',
        help=f'the file to write, *{SUFFIX}, *{C} or *{ONNX}; or *.so, *.dylib or *.dll, a library that is compiled '
        f'from a C file beside it, with a class of Python; or *{WASM}, with a page of a browser',
    )
    parser.add_argument(
        '--shape',
        nargs=2,
        type=int,
        metavar=('HEIGHT', 'WIDTH'),
        help=f"for *{ONNX} and *{C}: the size of an image in pixels, of *{C} the largest; default that of the config's "
        'test pipeline',
    )
    parser.add_argument(
        '--real',
        choices=REAL,
        default=FLOAT32,
        help='dtype of the real-valued convolutions in a packed model; default float32, which changes no output. int8 '
        'is calibrated on images of the config, and bfloat16 needs a CPU with units for it',
    )
    parser.add_argument(
        '--images',
        type=int,
        metavar='N',
        help=f'for --real int8: number of images for calibration; default {DEFAULT_COUNT}',
    )
    parser.add_argument(
        '--no-metric',
        action='store_true',
        help='for --real int8 and bfloat16: do not evaluate what they change on the validation set',
    )
    parser.add_argument(
        '--with-main',
        action='store_true',
        help=f'for *{C} and libraries: also write NAME_main.c, a program that prints the boxes in pictures, and '
        'compile it with a library',
    )
    parser.add_argument(
        '--target',
        metavar='TRIPLE',
        help='for libraries: system and CPU on which they run, such as aarch64-linux-musl; default those of this '
        'machine',
    )
    parser.add_argument(
        '--threads',
        action='store_true',
        help='for *.so and *.dylib: compile them, and the program of --with-main, so that they can use several threads',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace the files')
    add_settings(parser)
    args = parser.parse_args()

    check(args)
    cfg = load_config(args)
    shape = None
    if args.out.endswith(ONNX):
        shape = tuple(args.shape) if args.shape else image_size(cfg)
    model = trained_model(cfg, args.checkpoint)
    if is_c(args.out):
        write_c(model, cfg, args)
    elif shape:
        from surge_mm.deploy.onnx.export import export_onnx

        size = export_onnx(strip(model), args.out, shape)
        print(f'{args.out}: {size:,} bytes, for images of {shape}')
    else:
        export_packed(model, cfg, args)


def check(args: argparse.Namespace) -> None:
    """Check the arguments before the model is built.

    Raises:
        UsageError: if an argument, or a combination of arguments, is invalid.
    """
    check_new_file(args.out, (SUFFIX, C, ONNX, *COMPILED), args.overwrite)
    if is_c(args.out):
        check_name(Path(args.out))
        for file in Companions(Path(args.out), args.with_main).files:
            check_new_file(file, [file.suffix], args.overwrite)
        system = {'.dll': 'win32', '.dylib': 'darwin'}.get(Path(args.out).suffix, sys.platform)
        if system != sys.platform and not args.target:
            example = {'win32': 'x86_64-windows-gnu', 'darwin': 'aarch64-macos'}[system]
            raise LaunchError(
                f'{args.out!r} is a library of another system: name it *.so, or add --target, such as {example}'
            )
        if args.real == 'bfloat16':
            raise LaunchError(f'--real bfloat16 is for *{SUFFIX}; a *{C} file has float32 or int8')
    if args.with_main and not (is_c(args.out) and not args.out.endswith(WASM)):
        raise LaunchError(f'--with-main is for *{C} and libraries, not for {args.out!r}')
    if args.target and not (is_c(args.out) and not args.out.endswith((C, WASM))):
        raise LaunchError(f'--target is for libraries (*.so, *.dylib, *.dll), not for {args.out!r}')
    if args.threads and Path(args.out).suffix not in ('.so', '.dylib'):
        raise LaunchError(
            f'--threads is for libraries with POSIX threads (*.so, *.dylib), not for {args.out!r}. Compile a *{C} file '
            f'with {" ".join(THREADS)}'
        )
    if args.shape and args.out.endswith(SUFFIX):
        raise LaunchError(
            f'--shape is for *{ONNX} and *{C}; a packed model takes images of any size'
        )
    check_least(args, 1, 'shape', 'images')
    if args.real != FLOAT32 and args.out.endswith(ONNX):
        raise LaunchError(
            f'--real {args.real} is for *{SUFFIX}; quantize an ONNX file with the tools of its runtime'
        )
    if args.images is not None and args.real != 'int8':
        raise LaunchError(f'--images is for --real int8, not for --real {args.real}')
    if args.no_metric and (args.real == FLOAT32 or is_c(args.out)):
        raise LaunchError(
            f'--no-metric is for --real int8 and bfloat16 of *{SUFFIX}, which alone are evaluated'
        )
    check_checkpoint(args.checkpoint, 'checkpoint')
    if args.checkpoint.endswith(SUFFIX):
        raise LaunchError(
            f'checkpoint {args.checkpoint!r} is packed already; name the one of the training'
        )


def is_c(path: str) -> bool:
    """Return whether a file is a C file, or is compiled from one."""
    return Path(path).suffix in (C, *COMPILED)


def write_c(model: nn.Module, cfg: Config, args: argparse.Namespace) -> None:
    """Pack the model, write the C file and what belongs to it, and print their sizes.

    Args:
        model (nn.Module): The trained model.
        cfg (Config): Its config.
        args (argparse.Namespace): Arguments of the tool.
    """
    model.cfg = cfg  # type: ignore[assignment]
    is_detector = 'BaseDetector' in base_class_names(model)
    if args.with_main and not is_detector:
        raise LaunchError(f'--with-main is for detectors, not for {type(model).__name__}')
    if args.shape and is_detector:
        check_largest(model, tuple(args.shape))
    images = CalibrationSet(cfg, args.images) if args.real == 'int8' else None
    pack(model, args.real, images and track(images, 'calibration'))
    if images:
        print(f'calibrated on {len(images)} images of {images.source}')
    shape = tuple(args.shape) if args.shape else None if is_detector else image_size(cfg)
    companions = Companions(Path(args.out), args.with_main, args.target, args.threads)
    made = export_c(model, companions.c_file, shape)
    sizes = ' or '.join(f'{height}x{width}' for height, width in made.largest)
    print(
        f'{companions.c_file}: weights {made.constants:,} bytes, memory {made.memory:,} bytes (in plain C '
        f'{made.plain_memory:,}; for each thread after the first {made.workspace:,}) for images up to {sizes}'
    )
    for file in companions.write(made):
        print(f'{file}: {file.stat().st_size:,} bytes')
    if args.with_main and not companions.program:
        program = companions.c_file.with_suffix('')
        sources = [str(companions.c_file), str(companions.main)]
        print('compile it by:', shlex.join(['cc', '-O2', *sources, '-o', str(program), '-lm']))
    elif args.out.endswith(C):
        print('compile it by:', shlex.join(['cc', '-O2', '-c', args.out]))


def trained_model(cfg: Config, path: str) -> nn.Module:
    """Build the model of a config and load the weights of a checkpoint that tools/test.py evaluates.

    Args:
        cfg (Config): The config.
        path (str): Path or URL of the checkpoint.
    """
    model = build_model(cfg)
    checkpoint = load_checked(model, path)
    meta = checkpoint.get('meta', {}).get('dataset_meta') or {}
    model.dataset_meta = {key.lower(): value for key, value in meta.items()} or dataset_meta(cfg)
    model.eval()
    return model


def export_packed(model: nn.Module, cfg: Config, args: argparse.Namespace) -> None:
    """Pack the model, write the file, and print its layers and sizes.

    Args:
        model (nn.Module): The trained model.
        cfg (Config): Its config.
        args (argparse.Namespace): Arguments of the tool.
    """
    in_float = model_size(model).float_bytes
    shapes = {
        name: tuple(module.weight.shape)
        for name, module in model.named_modules()
        if isinstance(module, BinaryLayer)
    }
    size, reference = reference_outputs(model, cfg)
    images = CalibrationSet(cfg, args.images) if args.real == 'int8' else None
    in_float32 = pack(copy.deepcopy(model)) if args.real != FLOAT32 and not args.no_metric else None
    pack(model, args.real, images and track(images, 'calibration'))
    if args.real != FLOAT32 and reference:
        reference = outputs_on_image(model, size)
    with tempfile.TemporaryDirectory() as folder:  # the file is run before it gets its name
        path = Path(folder) / f'packed{SUFFIX}'
        save_packed(model, path, cfg)
        file = read_packed(path)
        if reference:
            loaded = load_packed(path, allow=classes_to_allow(file.config))
            difference = run_and_compare(loaded, reference, size)
        write_atomically(args.out, path.read_bytes(), 'make room there, or name another file')
    console = wide_console()
    console.print(table_of_layers(model.packing, shapes))
    if model.packing.unfused:
        console.print(table_of_unfused(model.packing))
    else:
        print('norms and activations behind binary layers: none is left to PyTorch')
    if args.real != FLOAT32:
        console.print(table_of_real(model.packing, args.real))
        if images:
            print(f'calibrated on {len(images)} images of {images.source}')
    console.print(table_of_sizes(sizes_of(file, model, in_float)))
    if reference:
        print(f'run on {trial_input_name(model, size)}: {describe(difference, args.real)}')
    if in_float32:
        print(change_of_metric(cfg, in_float32, model, args.real))
    console.print(f'{args.out}\nsha256 {file.sha256}', soft_wrap=True, highlight=False)


def reference_outputs(model: nn.Module, cfg: Config) -> tuple[tuple[int, int], dict[str, Tensor]]:
    """Return the size of an image, and the outputs for it of the model that is exported; none if it does not run.

    Args:
        model (nn.Module): The trained model.
        cfg (Config): Its config.
    """
    try:
        size = image_size(cfg)
    except LaunchError:
        size = DEFAULT_SIZE
    reference = strip(to_channels_last(copy.deepcopy(model)))  # real convolutions round alike
    try:
        return size, outputs_on_image(reference, size)
    except Exception as error:  # a model that needs text or another input beside the image
        print(
            'warning: the packed model is written without a trial run, since the model of the checkpoint does not run '
            f'on {trial_input_name(model, size)} alone: {describe_error(error)}'
        )
        return size, {}


def change_of_metric(cfg: Config, before: nn.Module, after: nn.Module, real: str) -> str:
    """Evaluate two packed models on the validation set, and return a sentence on the change.

    Args:
        cfg (Config): The config.
        before (nn.Module): The packed model in float32.
        after (nn.Module): The packed model in ``real``.
        real (str): Dtype of the real-valued convolutions of ``after``.
    """
    try:
        validation = ValidationSet(cfg)
    except LaunchError as error:
        return f'metric: not measured, {error}'
    found = [validation.evaluate(model) for model in track((before, after), 'evaluation')]
    names = [name for name in METRICS if name in found[0]] or list(found[0])
    lines = [
        f'{name}: {found[0][name]:.4f} in float32, {found[1][name]:.4f} in {real} '
        f'({found[1][name] - found[0][name]:+.4f}), on the {len(validation)} images of the validation set'
        for name in names
    ]
    return '\n'.join(lines)


if __name__ == '__main__':
    run(main, 'nothing was written')
