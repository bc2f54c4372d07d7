"""Program that computes the maps of a network by one runtime, without PyTorch, and prints what it measures as JSON.

python first_maps.py RUNTIME MODEL INPUT.npy REPEATS

RUNTIME is ncnn-fp32, ncnn-fp16, onnxruntime, openvino, c (a shared library of an exported C file), or none, which stops
behind the import of NumPy. The figures: the time of the monotonic clock at the first maps, in seconds; the median CPU
time of further runs, in seconds; bytes of the shared libraries of the runtime that the process has loaded; and the
largest number of each map of the first run, for comparison.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

MAPS = Path('/proc/self/maps')


def main(runtime: str, model: str, image: str, repeats: str) -> dict[str, Any]:
    """Run a model and return the figures."""
    x = np.load(image)
    if runtime == 'none':
        return {'first': time.monotonic()}
    run = RUNTIMES[runtime.partition('-')[0]](model, x, runtime)
    maps = run()
    first, seconds = time.monotonic(), []
    for _ in range(int(repeats)):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return {
        'first': first,
        'network': median(seconds) if seconds else None,
        'libraries': libraries(runtime.partition('-')[0]),
        'largest': sorted(float(np.abs(one).max()) for one in maps),
    }


def libraries(package: str) -> int:
    """Return the bytes of the shared libraries in the folders of a package that this process has loaded."""
    words = (line.split() for line in MAPS.read_text().splitlines())
    files = {Path(one[5]) for one in words if len(one) > 5 and '.so' in one[5]}
    return sum(file.stat().st_size for file in files if f'/{package}' in str(file))


def ncnn(model: str, x: np.ndarray, runtime: str) -> Callable[[], list[Any]]:
    """Return the function that runs the files ``MODEL.param`` and ``MODEL.bin``."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = 1
    is_half = runtime == 'ncnn-fp16'
    for name in ('fp16_packed', 'fp16_storage', 'fp16_arithmetic'):
        setattr(net.opt, f'use_{name}', is_half)
    net.load_param(f'{model}.param')
    net.load_model(f'{model}.bin')
    outputs = list(net.output_names())
    (image,) = x

    def run() -> list[Any]:
        extractor = net.create_extractor()
        extractor.input(net.input_names()[0], ncnn.Mat(image))
        return [np.array(extractor.extract(name)[1]) for name in outputs]

    return run


def onnxruntime(model: str, x: np.ndarray, runtime: str) -> Callable[[], list[Any]]:
    """Return the function that runs an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, ['CPUExecutionProvider'])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})


def openvino(model: str, x: np.ndarray, runtime: str) -> Callable[[], list[Any]]:
    """Return the function that runs an OpenVINO model, compiled into a cache beside it by the first process."""
    import openvino

    settings = {
        'INFERENCE_NUM_THREADS': 1,
        'NUM_STREAMS': 1,
        'PERFORMANCE_HINT': 'LATENCY',
        'CACHE_DIR': str(Path(model).with_suffix('.cache')),
    }
    core = openvino.Core()
    read = core.read_model(model)
    read.reshape(x.shape)
    request = core.compile_model(read, 'CPU', settings).create_infer_request()
    return lambda: list(request.infer([x], share_inputs=True, share_outputs=True).values())


def c(model: str, x: np.ndarray, runtime: str) -> Callable[[], list[Any]]:
    """Return the function that runs a shared library with the prefix ``net``, beside which its memory is noted."""
    import ctypes

    bytes_of, maps_of = map(int, Path(model).with_suffix('.txt').read_text().split())
    library, context = ctypes.CDLL(model), ctypes.create_string_buffer(64)
    memory, maps = ctypes.create_string_buffer(bytes_of), (ctypes.c_byte * (32 * maps_of))()
    assert library.net_init(context, memory, ctypes.c_size_t(bytes_of)) == 0
    image = np.ascontiguousarray(x[0].transpose(1, 2, 0))
    address = image.ctypes.data_as(ctypes.c_void_p)

    def run() -> list[Any]:
        assert library.net_forward(context, address, *image.shape[:2], maps) == 0
        return []

    run.owners = memory, image  # type: ignore[attr-defined]  # kept as long as the function
    return run


RUNTIMES = {'ncnn': ncnn, 'onnxruntime': onnxruntime, 'openvino': openvino, 'c': c}

if __name__ == '__main__':
    print(json.dumps(main(*sys.argv[1:])))
