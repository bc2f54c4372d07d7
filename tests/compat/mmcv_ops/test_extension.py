import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import mmcv
import mmcv.ops
import pytest
import torch
from mmcv.cnn.bricks import transformer
from mmcv.utils.ext_loader import check_ops_exist
from mmengine.utils.dl_utils import collect_env, mmcv_full_available

import surge_mm
from surge_mm.compat import install_mmcv_ops
from surge_mm.compat.mmcv_ops.extension import SERVED


def test_a_second_installation_changes_nothing():
    before = sys.modules['mmcv._ext']
    assert install_mmcv_ops() is True
    assert sys.modules['mmcv._ext'] is before


def test_mmengine_and_mmcv_see_the_operators():
    assert importlib.util.find_spec('mmcv._ext').name == 'mmcv._ext'
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', DeprecationWarning)  # pkgutil.find_loader
        assert mmcv_full_available()
        assert check_ops_exist()


def test_the_report_on_the_environment_names_torchvision():
    assert 'torchvision' in mmcv.ops.get_compiler_version()
    assert collect_env()['PyTorch'] == torch.__version__


@pytest.mark.parametrize(
    'name', ['carafe_forward', 'roi_pool_forward', 'softmax_focal_loss_forward']
)
def test_a_missing_operator_is_named_when_called(name):
    operator = getattr(importlib.import_module('mmcv._ext'), name)
    assert name not in SERVED
    with pytest.raises(NotImplementedError, match=rf"'{name}'.*pip install \"mmcv>=2.0,<2.2\""):
        operator(1, key=2)


def test_a_layer_with_a_missing_operator_names_it():
    with pytest.raises(NotImplementedError, match="'carafe_forward'"):
        mmcv.ops.carafe(torch.ones(1, 4, 2, 2), torch.ones(1, 9, 4, 4), 3, 1, 2)


def test_the_replacement_has_no_undefined_special_names():
    extension = importlib.import_module('mmcv._ext')
    assert not hasattr(extension, '__path__')
    assert not hasattr(extension, '__wrapped__')


@pytest.fixture
def without_replacement(monkeypatch):
    monkeypatch.delitem(sys.modules, 'mmcv._ext')


@pytest.fixture
def extension_file(monkeypatch, tmp_path, without_replacement):
    """Return the path of an ``mmcv._ext`` that Python finds as it would find a compiled one."""
    monkeypatch.setattr(mmcv, '__path__', [*mmcv.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    return tmp_path / '_ext.py'


def test_a_compiled_mmcv_is_not_replaced(extension_file):
    extension_file.write_text('nms = "compiled"')
    assert install_mmcv_ops() is False
    assert importlib.import_module('mmcv._ext').nms == 'compiled'
    assert install_mmcv_ops() is False


def test_the_error_of_a_broken_compiled_mmcv_is_seen(extension_file):
    extension_file.write_text('raise ImportError("undefined symbol: _ZN2at")')
    assert install_mmcv_ops() is False
    with pytest.raises(ImportError, match='undefined symbol'):
        importlib.import_module('mmcv._ext')


def test_a_transformer_loaded_before_gets_its_missing_attention(monkeypatch, without_replacement):
    monkeypatch.delattr(transformer, 'MultiScaleDeformableAttention')
    assert install_mmcv_ops() is True
    attention = mmcv.ops.MultiScaleDeformableAttention
    assert transformer.MultiScaleDeformableAttention is attention


def test_mmdet_imports_after_mmpretrain_imported_without_the_replacement():
    code = (
        'import mmpretrain.models\n'
        'from surge_mm.compat.mmcv_ops.extension import install_mmcv_ops\n'
        'assert install_mmcv_ops()\n'
        'import mmdet.models\n'
    )
    root = Path(surge_mm.__file__).parents[1]
    subprocess.run([sys.executable, '-W', 'ignore', '-c', code], check=True, cwd=root)


def test_multi_scale_deformable_attention_attends_on_the_cpu():
    """With all reference points in one place, a constant map gives that constant."""
    attention = mmcv.ops.MultiScaleDeformableAttention(
        embed_dims=8, num_heads=2, num_levels=1, num_points=1, dropout=0, batch_first=True
    )
    for projection in (attention.value_proj, attention.output_proj):
        torch.nn.init.eye_(projection.weight)
    value = torch.arange(8.0).expand(1, 36, 8).clone().requires_grad_()
    query = torch.zeros(1, 3, 8)
    out = attention(
        query,
        value=value,
        reference_points=torch.full((1, 3, 1, 2), 0.5),
        spatial_shapes=torch.tensor([[6, 6]]),
        level_start_index=torch.tensor([0]),
    )
    out.sum().backward()
    assert torch.allclose(out, torch.arange(8.0).expand(1, 3, 8))
    assert torch.allclose(value.grad.sum(), torch.tensor(24.0))
