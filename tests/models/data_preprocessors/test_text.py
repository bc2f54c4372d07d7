import pytest
import torch
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample


def test_sequences_are_padded_to_the_longest():
    preprocessor = MODELS.build({'type': 'surge_mm.TextDataPreprocessor', 'pad_id': 9})
    inputs = {
        'input_ids': [torch.tensor([5, 6, 7]), torch.tensor([8])],
        'token_type_ids': [torch.tensor([0, 1, 1]), torch.tensor([0])],
    }
    samples = [DataSample(), DataSample()]
    found = preprocessor({'inputs': inputs, 'data_samples': samples}, training=True)
    assert {name: value.tolist() for name, value in found['inputs'].items()} == {
        'input_ids': [[5, 6, 7], [8, 9, 9]],
        'token_type_ids': [[0, 1, 1], [0, 0, 0]],
        'attention_mask': [[1, 1, 1], [1, 0, 0]],
    }
    assert {value.dtype for value in found['inputs'].values()} == {torch.int64}
    assert len(found['data_samples']) == 2
    assert preprocessor({'inputs': inputs})['data_samples'] is None


def test_a_negative_token_is_refused():
    with pytest.raises(ValueError, match='pad_id=-1'):
        MODELS.build({'type': 'surge_mm.TextDataPreprocessor', 'pad_id': -1})


@pytest.mark.parametrize('name', ['input_ids', 'token_type_ids'])
def test_a_missing_input_is_named(name):
    inputs = {'input_ids': [torch.tensor([5])], 'token_type_ids': [torch.tensor([0])]}
    del inputs[name]
    preprocessor = MODELS.build({'type': 'surge_mm.TextDataPreprocessor'})
    with pytest.raises(ValueError, match=f'data set lack {name} in inputs; they have '):
        preprocessor({'inputs': inputs})
