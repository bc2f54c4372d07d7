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
    from surge_mm.deploy import Detector, lean_imports, load_packed
    before = [*sys.modules]
    with lean_imports():
        detector = Detector(sys.argv[1])
    import numpy as np
    for _ in range(3):  # the third one runs without the modules
        found = detector(np.full((40, 50, 3), 90, np.uint8))
    after = [*sys.modules]
    print(json.dumps([before, after, found.boxes.tolist()]))

    # all that was left out is there when it is used
    from importlib import import_module
    from mmdet.registry import TASK_UTILS
    from surge_mm.deploy.predict.optional_packages import DEFERRED
    strange = [
        (module.__name__, name)
        for module in [*sys.modules.values()]
        for name, value in [*vars(module).items()]
        if type(value).__name__ == '_Deferred'
    ]
    assert not strange and TASK_UTILS.get('HungarianAssigner') is None
    names = (
        'FSDPStrategy MMFullyShardedDataParallel ZeroRedundancyOptimizer imshow_mot_errors CrowdHumanMetric '
        'HungarianAssigner TopkHungarianAssigner AppearanceFreeLink KalmanFilter'
    )
    for module, name in zip(DEFERRED, names.split(), strict=True):
        found = getattr(import_module(module.rpartition('.')[0]), name)
        assert found.__module__ == module and found is getattr(sys.modules[module], name)
    from mmdet.models.task_modules import HungarianAssigner
    assert TASK_UTILS.get('HungarianAssigner') is HungarianAssigner
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
    hosts = {'mmdet', 'mmengine.model', 'mmpretrain'}
    assert not {'llvmlite', 'numba', 'onnx', 'onnxruntime', *hosts} & set(before)
    large = {'matplotlib', 'mmpretrain', 'scipy.optimize', 'sklearn', 'torchvision'}
    assert not {'torch._dynamo', 'torch.distributed.fsdp', *large} & set(after)
    expected = Detector(path)(np.full((40, 50, 3), 90, np.uint8)).boxes
    np.testing.assert_array_equal(np.float32(boxes), expected)
    assert len(expected)
