"""A full-precision network in INT8, in OpenVINO and in ONNX Runtime, for comparison with packed models.

The network is exported to ONNX and quantized statically: by NNCF for OpenVINO, and by ``quantize_static`` of ONNX
Runtime with Q/DQ nodes and a scale for each filter. Both engines otherwise run with their defaults: OpenVINO computes
what is not quantized in bfloat16 where the CPU has it.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from surge_mm.utils.errors import UsageError, describe_error
from surge_mm.utils.modules import raw_outputs

OPSET = 17
INPUT = 'images'
CPUINFO = Path('/proc/cpuinfo')


class TensorsOf(nn.Module):
    """A network whose outputs are the tensors among those of ``forward``.

    Args:
        model (nn.Module): One-stage detector, classifier or module of images.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        leaves, _ = tree_flatten(raw_outputs(self.model, images))
        return tuple(leaf for leaf in leaves if torch.is_tensor(leaf))


class Int8Engine(ABC):
    """A network in INT8. Calls run it on as many threads as PyTorch has, ``torch.get_num_threads()``.

    Args:
        model (nn.Module): One-stage detector, classifier or module of images, in full precision. It is not changed.
        images (Sequence[Tensor]): Images for calibration, ``(1, 3, H, W)`` each, normalized.

    Raises:
        UsageError: if the model cannot be exported, or not be quantized.
    """

    title: str
    packages: tuple[str, ...]

    def __init__(self, model: nn.Module, images: Sequence[Tensor]) -> None:
        model = copy.deepcopy(model).eval()
        self._runners: dict[tuple[int, tuple[int, ...] | None], Callable[[Any], list[Any]]] = {}
        try:
            with torch.no_grad():
                self._leaves, self._spec = _structure(model, images[0])
                self._quantize(_onnx(model, images[0]), [image.numpy() for image in images])
        except Exception as error:  # of any layer of the hosts, of the exporter, or of the engine
            raise UsageError(
                f'{type(model).__name__} cannot be run by {self.title}: '
                f'{describe_error(error).partition(chr(10))[0]}. Compare a one-stage detector, a classifier or a '
                'backbone'
            ) from error

    @abstractmethod
    def _quantize(self, file: bytes, arrays: list[Any]) -> None:
        """Quantize an ONNX file, calibrated on arrays ``(1, 3, H, W)``."""

    @abstractmethod
    def _compile(self, threads: int, shape: tuple[int, ...] | None) -> Callable[[Any], list[Any]]:
        """Return a function of an array that returns arrays, for one shape or, for None, for any."""

    @abstractmethod
    def save(self, folder: Path) -> Path:
        """Write the quantized model as the engine reads it, and return its file.

        Args:
            folder (Path): Folder of the file.
        """

    def prepare(self, image: Tensor) -> Callable[[], list[Any]]:
        """Return a function without arguments that runs the network on one image, compiled for its size.

        Args:
            image (Tensor): ``(1, 3, H, W)``, normalized.
        """
        array, shape = image.contiguous().numpy(), tuple(image.shape)
        return lambda: self._runner(shape)(array)

    def __call__(self, images: Tensor) -> Any:
        """Return the outputs for images of any size, in the structure of those of the model.

        Args:
            images (Tensor): ``(N, 3, H, W)``, normalized.
        """
        return self._outputs(map(torch.tensor, self._runner(None)(images.contiguous().numpy())))

    def of_one_size(self, images: Tensor) -> Any:
        """Return the same, compiled for the size of the images, in tensors that are valid until the next call.

        Args:
            images (Tensor): ``(N, 3, H, W)``, normalized.
        """
        arrays = self._runner(tuple(images.shape))(images.contiguous().numpy())
        return self._outputs(map(torch.from_numpy, arrays))

    def _outputs(self, tensors: Iterator[Tensor]) -> Any:
        leaves = [next(tensors) if torch.is_tensor(leaf) else leaf for leaf in self._leaves]
        return tree_unflatten(leaves, self._spec)

    def _runner(self, shape: tuple[int, ...] | None) -> Callable[[Any], list[Any]]:
        key = (torch.get_num_threads(), shape)
        if key not in self._runners:
            self._runners[key] = self._compile(*key)
        return self._runners[key]

    def in_place_of(self, model: nn.Module, one_size: bool = False) -> nn.Module:
        """Return a copy of a detector or classifier whose outputs are those of the engine.

        Decoding and non-maximum suppression remain those of the host.

        Args:
            model (nn.Module): The model that the engine was made from.
            one_size (bool): Whether the network is compiled for each size of images, which takes a second, and then
                runs faster. Defaults to False.
        """
        model = copy.deepcopy(model)
        model.extract_feat = lambda images, *_, **__: images  # type: ignore[assignment]
        head: Any = getattr(model, 'bbox_head', None) or model.head
        head.forward = self.of_one_size if one_size else self
        return model


class OpenVino(Int8Engine):
    """A network in OpenVINO, quantized by NNCF."""

    title = 'OpenVINO INT8'
    packages = ('openvino', 'nncf')

    def _quantize(self, file: bytes, arrays: list[Any]) -> None:
        import nncf
        import openvino

        nncf.set_log_level(logging.ERROR)
        self._core = openvino.Core()
        data = nncf.Dataset(arrays)
        self._model = nncf.quantize(
            self._core.read_model(file),
            data,
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(arrays),
        )

    def save(self, folder: Path) -> Path:
        import openvino

        path = folder / 'openvino.xml'
        openvino.save_model(self._model, path)
        return path

    def _compile(self, threads: int, shape: tuple[int, ...] | None) -> Callable[[Any], list[Any]]:
        model = self._model.clone()
        if shape:
            model.reshape(shape)
        return compile_openvino(self._core, model, threads)


def compile_openvino(core: Any, model: Any, threads: int) -> Callable[[Any], list[Any]]:
    """Return a function of an array that runs a model of OpenVINO and returns its arrays, valid until the next call.

    Args:
        core (openvino.Core): OpenVINO.
        model (openvino.Model): The model, with one input.
        threads (int): Number of threads.
    """
    settings = {
        'INFERENCE_NUM_THREADS': threads,
        'NUM_STREAMS': 1,
        'PERFORMANCE_HINT': 'LATENCY',
    }
    request = core.compile_model(model, 'CPU', settings).create_infer_request()

    def run(array: Any) -> list[Any]:
        return list(request.infer([array], share_inputs=True, share_outputs=True).values())

    return run


class OnnxRuntime(Int8Engine):
    """A network in ONNX Runtime, quantized by its own tool."""

    title = 'ONNX Runtime INT8'
    packages = ('onnx', 'onnxruntime')

    def _quantize(self, file: bytes, arrays: list[Any]) -> None:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

        feeds = iter([{INPUT: array} for array in arrays])
        with tempfile.TemporaryDirectory() as folder, _without_warnings():
            paths = [
                str(Path(folder) / name) for name in ('float.onnx', 'folded.onnx', 'int8.onnx')
            ]
            Path(paths[0]).write_bytes(file)
            quant_pre_process(paths[0], paths[1], skip_symbolic_shape=True)
            quantize_static(
                paths[1],
                paths[2],
                SimpleNamespace(get_next=lambda: next(feeds, None)),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                reduce_range=not _has_vnni(),  # without it, sums of two products saturate
            )
            self._file = Path(paths[2]).read_bytes()

    def save(self, folder: Path) -> Path:
        path = folder / 'int8.onnx'
        path.write_bytes(self._file)
        return path

    def _compile(self, threads: int, shape: tuple[int, ...] | None) -> Callable[[Any], list[Any]]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        # threads that wait would take the CPU from the variant that is measured next
        options.add_session_config_entry('session.force_spinning_stop', '1')
        for name, size in zip('NHW', (shape[0], *shape[2:]) if shape else (), strict=False):
            options.add_free_dimension_override_by_name(name, size)
        session = onnxruntime.InferenceSession(self._file, options, ['CPUExecutionProvider'])
        return lambda array: session.run(None, {INPUT: array})


ENGINES: dict[str, type[Int8Engine]] = {'openvino': OpenVino, 'onnxruntime': OnnxRuntime}


def require_engines(names: Sequence[str]) -> None:
    """Check that the packages of engines are installed.

    Args:
        names (Sequence[str]): Keys of :data:`ENGINES`.

    Raises:
        UsageError: if one is missing.
    """
    for name in names:
        missing = [package for package in ENGINES[name].packages if find_spec(package) is None]
        if missing:
            raise UsageError(
                f'{name} needs {" and ".join(missing)}, not installed here. Run: pip install -r '
                f'requirements/rivals.txt, or pip install {" ".join(missing)}'
            )


def _structure(model: nn.Module, image: Tensor) -> tuple[list[Any], TreeSpec]:
    return tree_flatten(raw_outputs(model, image))


def _onnx(model: nn.Module, image: Tensor) -> bytes:
    """Return the ONNX file of a model, for images of any number and size."""
    file, network = io.BytesIO(), TensorsOf(model)
    names = [f'output_{i}' for i in range(len(network(image)))]
    with _without_warnings():
        torch.onnx.export(
            network,
            (image,),
            file,  # type: ignore[arg-type]  # a file or a path
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=names,
            dynamic_axes={INPUT: {0: 'N', 2: 'H', 3: 'W'}, **{name: {0: 'N'} for name in names}},
        )
    return file.getvalue()


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        yield


def _has_vnni() -> bool:
    return CPUINFO.is_file() and 'vnni' in CPUINFO.read_text()
