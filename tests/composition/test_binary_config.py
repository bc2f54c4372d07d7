"""The config of a binary model, from the config of a full-precision one."""

import pytest
from mmengine.config import Config

import surge_mm  # noqa: F401
from surge_mm.composition.binary_config import STE, binary_config, config_text, merged

RATES = [
    ('AdamW', 0.002, 0.01),
    ('Adam', 0.0003, 0.0015),
    ('torch.optim.AdamW', 1e-4, 5e-4),
    ('AdamW', 0.004, 0.01),
    ('AdamW', 0.01, 0.01),
    ('AdamW', 0.02, 0.02),
    ('SGD', 0.002, 0.002),
]


@pytest.mark.parametrize('kind, rate, students', RATES)
def test_a_student_of_adam_has_5_times_the_rate_of_its_teacher_and_at_most_001(
    kind, rate, students
):
    cfg = Config(
        {
            'default_scope': 'mmdet',
            'model': {'type': 'FCOS', 'backbone': {'type': 'ResNet'}},
            'optim_wrapper': {'optimizer': {'type': kind, 'lr': rate, 'weight_decay': 0.1}},
        }
    )
    student = merged(cfg, binary_config(cfg, 'a.py', STE, 'a.pth', teacher='a.py'))
    assert student.optim_wrapper.optimizer == {'type': kind, 'lr': students, 'weight_decay': 0.1}
    alone = merged(cfg, binary_config(cfg, 'a.py', STE, 'a.pth'))
    assert alone.optim_wrapper == cfg.optim_wrapper


def test_a_written_config_has_the_tuples_and_keys_of_the_dictionary(tmp_path):
    content = {
        'scale': (128, 128),
        'one': ('a',),
        'none': (),
        'sizes': [(8, 8), [16]],
        'keys': {'backbone.layer1': {'lr_mult': 0.1}, 'class': {}, 3: 'c'},
        'far': [float('inf'), -float('inf')],
        'long': {f'name_{i}': tuple(range(i)) for i in range(20)},
    }
    file = tmp_path / 'written.py'
    file.write_text(config_text(content))
    assert Config.fromfile(file).to_dict() == content
