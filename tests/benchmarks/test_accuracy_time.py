"""benchmarks/accuracy_time.py on figures that are given: what it shows is that of each detector's own variant."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image

import surge_mm  # noqa: F401
from surge_mm.launch.runner import build_model
from surge_mm.utils.errors import LaunchError

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
RIVALS = sorted((BENCHMARKS / 'bccd_rivals').glob('*.py'))


@pytest.fixture(scope='module')
def script():
    sys.path.insert(0, str(BENCHMARKS))
    spec = importlib.util.spec_from_file_location('accuracy_time', BENCHMARKS / 'accuracy_time.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(BENCHMARKS))


def report_of(voc):
    """Return a report of one binary and one real detector, whose VOC mAPs are ``voc``, in two variants the second."""

    def seed(values):
        return {name: {'VOC mAP': value, 'COCO mAP': value / 2} for name, value in values.items()}

    binary, first, second = voc
    return {
        'accuracy': {
            'one-bit': {
                f'seed_{i}': seed({'packed, int8': value}) for i, value in enumerate(binary)
            },
            'real': {
                f'seed_{i}': seed({'OpenVINO INT8': a, 'ONNX Runtime INT8': b})
                for i, (a, b) in enumerate(zip(first, second, strict=True))
            },
        },
        'times': {
            cpu: {
                'cpu': cpu,
                'milliseconds': {
                    'one-bit: packed, int8': 1.5,
                    'real: OpenVINO INT8': 3.0,
                    'real: ONNX Runtime INT8': 2.0,
                },
            }
            for cpu in ('old', 'new')
        },
    }


def test_a_point_has_the_time_and_the_mean_over_seeds_of_its_own_variant(script):
    voc = np.random.default_rng(0).uniform(size=(3, 4)).tolist()
    found = script.points(report_of(voc), 'old', 'COCO mAP')
    for (milliseconds, average, values), given, time in zip(
        found.values(), voc, (1.5, 3.0, 2.0), strict=True
    ):
        assert milliseconds == time
        assert average == pytest.approx(sum(given) / 8)
        assert values == [value / 2 for value in given]


def test_the_picture_has_a_panel_for_each_cpu_and_the_table_each_network(script, tmp_path, capsys):
    report = report_of([[0.8, 0.9], [0.5, 0.6], [0.7, 0.7]])
    script.show(report)
    out = capsys.readouterr().out
    assert all(out.count(text) == 2 for text in ('0.850 (0.800 0.900)', '0.550', 'one-bit: packed'))
    both = Image.open(script.draw(report, tmp_path / 'both.png')).size
    del report['times']['new']
    one = Image.open(script.draw(report, tmp_path / 'one.png')).size
    assert both == (2 * one[0], one[1])


@pytest.mark.parametrize('out', ['no/plane.json', '.'])
def test_a_file_that_cannot_be_written_is_an_error_before_anything_runs(script, out, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['accuracy_time.py', 'no', '--cpu', 'a', '--out', out])
    with pytest.raises(LaunchError, match='--out .* must be a file in an existing folder'):
        script.main()


def test_a_run_without_a_checkpoint_is_an_error(script, tmp_path):
    (tmp_path / 'a.py').write_text('model = dict()')
    with pytest.raises(LaunchError, match='has no checkpoint'):
        script.variants_of(tmp_path)


@pytest.mark.parametrize('path', RIVALS, ids=lambda path: path.stem)
def test_a_rival_builds_and_takes_images_of_the_size_of_the_test_pipeline(script, path):
    cfg = Config.fromfile(path)
    model = build_model(cfg).eval()
    image = script.random_image(cfg)
    assert image.shape == (1, 3, 192, 256)
    scores = model(image, mode='tensor')[0]
    assert all(level.shape[0] == 1 for level in scores)
