"""Several gloo ranks take the same steps, and those of one process on the joined batch where that is defined."""

import pytest
import torch
from helpers.glue_runs import run_config, write_data
from helpers.narrow import digits_with_masks
from helpers.rank_cases import (
    BFLOAT16,
    SETTINGS,
    classify,
    difference,
    read_alone,
    read_by_two_ranks,
    starts_of_scales,
    wrapped_and_initialized,
)
from helpers.rank_runs import KEEP_RANK, Ranks, kept, take_boxes, write_config

from surge_mm.layers import SurgeLinear


@pytest.mark.parametrize(
    'world_size, settings',
    [
        (2, 'fixed'),
        (2, 'ags'),
        (2, 'preserve_norm'),
        (2, 'tied'),
        (4, 'ags'),
        (4, 'accumulation'),
    ],
)
def test_ranks_agree_with_one_process_on_the_joined_batch(world_size, settings, tmp_path):
    assert difference(world_size, tmp_path, SETTINGS[settings]) < 1e-10


def test_ranks_whose_branch_computes_in_bfloat16_agree(tmp_path):
    assert difference(2, tmp_path, BFLOAT16) < 1e-4


def test_without_sync_lambda_is_each_ranks_own_and_parameters_stay_equal(tmp_path):
    settings = {'eta': 0.5}, {'eta': 0.5}, 1
    (single,) = classify(1, tmp_path, settings)
    first, second = classify(2, tmp_path, settings)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert any(
        not torch.allclose(one, alone, rtol=0, atol=1e-10)
        for one, alone in zip(first, single, strict=True)
    )


def test_learned_scales_start_from_the_mean_over_the_ranks_and_stay_equal(tmp_path):
    alone = read_alone()
    first, second = read_by_two_ranks(tmp_path)
    scales = [name for name in alone[0] if name.endswith('activation_scale')]
    assert (
        len(scales) == 1 + 2 * 10
    )  # pooler; six layers and four operands of the attention in each of two layers
    for name in scales:
        torch.testing.assert_close(first[0][name], alone[0][name], rtol=1e-12, atol=0)
    assert (
        first[0]['bert.pooler.dense.activation_scale']
        != first[2]['bert.pooler.dense.activation_scale']
    )
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize('broadcasts', [True, False])
def test_branches_are_copies_of_weights_that_are_initialized_behind_the_wrapper(
    broadcasts, tmp_path
):
    (w_b, w_a), (other_w_b, other_w_a) = wrapped_and_initialized(tmp_path, broadcasts)
    assert torch.equal(w_a, w_b)
    assert torch.equal(w_b, other_w_b) and torch.equal(w_a, other_w_a)


def test_a_learned_scale_starts_at_the_first_batch_that_has_a_token_on_any_rank(tmp_path):
    first, second = starts_of_scales(tmp_path)
    assert first == second
    (_, unset), (scale, bits), last = first
    assert unset == 0 and bits == 1 and last == (scale, bits)
    alone = SurgeLinear(4, 3, activation={'type': 'ElasticSign'})
    alone(torch.full((2, 4), 2.0))
    assert scale == alone.activation_scale.item()


def test_detector_of_a_rank_without_boxes_trains_on(tmp_path):
    digits = digits_with_masks(tmp_path / 'digits')
    take_boxes(digits / 'annotations/train.json', world_size=2, ranks=[1])
    settings = {
        'custom_hooks.0.sync': True,
        'train_dataloader.dataset.pipeline.2.scale': (64, 64),
    }
    path = write_config(tmp_path, 'faster-rcnn-1bit_r18_fpn', digits, 3, settings)
    with Ranks(2, tmp_path, path) as ranks:
        assert ranks.wait() == [0, 0], ranks.said(1)
    losses = kept(tmp_path, 2)
    assert losses.shape == (2, 3) and losses.isfinite().all()


def test_text_classifiers_of_two_ranks_with_learned_scales_stay_equal(tmp_path):
    pytest.importorskip('tokenizers')
    write_data(tmp_path)
    cfg = run_config(tmp_path, 'bert-mini_1e_sst2-mini', 'surge-bit', tmp_path / 'run')
    (tmp_path / 'keep_rank.py').write_text(KEEP_RANK)
    cfg.custom_imports = {'imports': ['surge_mm', 'keep_rank']}
    cfg.custom_hooks.append({'type': 'KeepRank'})
    cfg.log_level = 'INFO'
    cfg.dump(tmp_path / 'text.py')
    with Ranks(2, tmp_path, tmp_path / 'text.py') as ranks:
        assert ranks.wait() == [0, 0], ranks.said(1)
    losses = kept(tmp_path, 2)
    assert losses.shape == (2, 3) and not torch.equal(losses[0], losses[1])  # 24 rows each
    assert 'glue/accuracy' in ranks.said(0)
    saved = torch.load(tmp_path / 'run/epoch_1.pth', weights_only=True)['state_dict']
    scales = [v for k, v in saved.items() if k.endswith('activation_scale')]
    assert len(scales) == 21 and all(v.isfinite() and v != 1 for v in scales)
