"""The model families of MMDetection.

The first config of each folder of MMDetection that builds without a download (of the first four) was binarized by the
default rules, with random statistics in its batch norms, and run on an image of 128x128 pixels, or of the size of its
test pipeline. It was packed and run again. Predictions, and the outputs of backbone, neck, heads and their parts, were
compared. Left out are folders whose models need more than mmcv-lite, an image, or the packages of the tests, and V3Det,
whose 13,204 classes give too many boxes from random weights.
"""

import pytest
import torch
from helpers.host_families import FAMILIES, ROOT, difference_of

GROUPS = 8


@pytest.mark.timeout(3600)
@pytest.mark.parametrize('group', range(GROUPS))
def test_a_packed_model_of_each_family_gives_the_outputs_of_the_binary_one(
    group, record, monkeypatch
):
    monkeypatch.chdir(ROOT.parent)  # a teacher is named by a path from there
    torch.set_num_threads(1)
    names = FAMILIES[len(FAMILIES) * group // GROUPS : len(FAMILIES) * (group + 1) // GROUPS]
    results = {name: difference_of(name) for name in names}
    equal = [name for name, (difference, _) in results.items() if difference == 0]
    left_out = [f'{name} ({why})' for name, (found, why) in results.items() if found is None]
    different = {name: found for name, found in results.items() if found[0]}
    assert equal and not different
    record(
        f'folders {names[0]} to {names[-1]}',
        len(names),
        f'{len(equal)} equal to the bit: {", ".join(equal)}. Left out: {", ".join(left_out) or "none"}',
    )
