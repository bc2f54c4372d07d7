"""Files of format version 1, written by surge_mm 0.1.0 before the package was reorganized, still load."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from surge_mm.deploy import load_packed

FOLDER = Path(__file__).parent / 'version_1'


@torch.no_grad()
@pytest.mark.parametrize(('name', 'size'), [('classifier', 32), ('detector', 64)])
def test_an_earlier_file_gives_the_same_outputs_as_before(name, size):
    expected = load_file(FOLDER / 'outputs.safetensors')
    pixels = torch.arange(3 * size * size) * 37 % 101
    out = load_packed(FOLDER / f'{name}.safetensors')(pixels.reshape(1, 3, size, size) / 50 - 1)
    outputs = [out] if name == 'classifier' else [level for maps in out for level in maps]
    then = [value for key, value in sorted(expected.items()) if key.startswith(name)]
    assert len(outputs) == len(then) == (1 if name == 'classifier' else 9)
    for now, before in zip(outputs, then, strict=True):
        torch.testing.assert_close(now, before, rtol=1e-4, atol=1e-4)
