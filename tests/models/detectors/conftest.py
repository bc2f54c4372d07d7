import pytest
from helpers.distillation import detector, save_teacher
from mmengine.logging import MessageHub
from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def scope():
    """Set the scope of a detection config, without classes that another run may have left."""
    MessageHub.get_current_instance().update_info('dataset_meta', {})
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


@pytest.fixture
def retina(tmp_path):
    cfg = detector()
    return cfg, save_teacher(tmp_path, cfg)
