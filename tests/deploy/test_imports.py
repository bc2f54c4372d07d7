"""What an import of surge_mm.deploy loads, and what a detector needs."""

import json
import subprocess
import sys

import numpy as np
from helpers.packed_files import detector_config, packed_file

from surge_mm.deploy import Detector

PROGRAM = """if True:
    import json, sys
    import surge_mm
    assert 'surge_mm.deploy' not in sys.modules
    from surge_mm.deploy import lean_imports, load_packed
    before = [name for name in sys.modules if '.' not in name]
    with lean_imports():
        detector = surge_mm.deploy.Detector(sys.argv[1])
    import numpy as np
    for _ in range(3):  # the third one runs without the modules
        found = detector(np.full((40, 50, 3), 90, np.uint8))
    after = [*sys.modules]
    print(json.dumps([before, after, found.boxes.tolist()]))
"""


def test_deploy_is_imported_when_it_is_used_and_lean_without_optional_packages_of_the_hosts(
    tmp_path,
):
    cfg = detector_config()
    cfg.model.test_cfg.score_thr = 0.0
    path = packed_file(cfg, tmp_path / 'detector.safetensors')
    program = [sys.executable, '-c', PROGRAM, str(path)]
    done = subprocess.run(program, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, after, boxes = json.loads(done.stdout.splitlines()[-1])
    assert 'mmengine' in before and 'mmdet.models' in after
    assert not {'llvmlite', 'mmdet', 'mmpretrain', 'numba', 'onnx', 'onnxruntime'} & set(before)
    assert not {'mmpretrain', 'sklearn', 'torchvision', 'torch._dynamo'} & set(after)
    expected = Detector(path)(np.full((40, 50, 3), 90, np.uint8)).boxes
    np.testing.assert_array_equal(np.float32(boxes), expected)
    assert len(expected)
