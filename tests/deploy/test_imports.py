"""What an import of surge_mm.deploy loads."""

import json
import subprocess
import sys

PROGRAM = """if True:
    import json, sys
    import surge_mm
    assert 'surge_mm.deploy' not in sys.modules
    assert surge_mm.deploy.load_packed
    print(json.dumps([name for name in sys.modules if '.' not in name]))
"""


def test_deploy_is_imported_when_it_is_used_and_without_numba_and_the_hosts():
    done = subprocess.run([sys.executable, '-c', PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert 'mmengine' in loaded
    assert not {'llvmlite', 'mmdet', 'mmpretrain', 'numba', 'onnx', 'onnxruntime'} & set(loaded)
