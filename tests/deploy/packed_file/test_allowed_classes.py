"""The allow-list of packed files: it names registered classes, and none that runs, fetches or reads what it is told."""

from importlib import import_module

import mmengine.registry
import pytest

import surge_mm
from surge_mm.deploy.packed_file.allowed_classes import ALLOWED, full_name, is_allowed
from surge_mm.ops import ActivationBinarizer, WeightBinarizer
from surge_mm.utils.hosts import installed_hosts, is_installed_host

KINDS = ('MODELS', 'TASK_UTILS', 'TRANSFORMS', 'VISUALIZERS')


@pytest.fixture(scope='module')
def registered():
    """All registered classes by their full names."""
    for host in (*installed_hosts(), 'surge_mm'):
        import_module(f'{host}.registry')
    found = {}
    for kind in KINDS:
        root = getattr(mmengine.registry, kind)
        for registry in (*root.children.values(), root):
            registry.import_from_location()
            found.update({full_name(cls): cls for cls in registry.module_dict.values()})
    for family in (ActivationBinarizer, WeightBinarizer):
        found.update({full_name(cls): cls for cls in family.known.values()})
    return found


def test_every_entry_is_a_registered_class(registered):
    for entry in ALLOWED:
        if entry.startswith('mmseg.') and not is_installed_host('mmseg'):
            continue
        package, _, name = entry.rpartition('.')
        inside = [full for full in registered if full.startswith(package + '.')]
        assert any(full.rpartition('.')[2] == name for full in inside), entry


def test_classes_that_run_fetch_or_read_what_they_are_told_are_not_on_it(registered):
    refused = {full.rpartition('.')[2] for full, cls in registered.items() if not is_allowed(cls)}
    assert refused >= {
        *('ArcFaceClsHead', 'BertModel', 'CameraMotionCompensation', 'Detectron2Wrapper', 'GLIP'),
        *('GroundingDINO', 'HuggingFaceClassifier', 'ImageToImageRetriever', 'LAD', 'LoRAModel'),
        *('KnowledgeDistillationSingleStageDetector', 'TIMMBackbone', 'TimmClassifier', 'VQKD'),
        *('VQAGenerationHead', 'DistilledClassifier', 'load_packed', 'Albu', 'RandomResize'),
        *('LoadProposals', 'RandomChoiceResize', 'InferencerLoader', 'DistilledDetector'),
    }
    assert not any('torchvision' in name or 'multimodal' in name for name in ALLOWED)


def test_a_class_of_the_same_name_elsewhere_is_not_allowed():
    class Conv2d:
        pass

    assert is_allowed(surge_mm.SurgeConv2d)
    assert not is_allowed(Conv2d)
    assert is_allowed(Conv2d, allow=[Conv2d]) and is_allowed(Conv2d, allow=[full_name(Conv2d)])
