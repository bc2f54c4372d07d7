"""Small encoders of texts, and batches of made-up tokens for them."""

import torch
from mmpretrain.structures import DataSample

from surge_mm import TextClassifier

SIZES = {
    'vocab_size': 40,
    'hidden_size': 16,
    'num_hidden_layers': 2,
    'num_attention_heads': 2,
    'intermediate_size': 24,
    'max_position_embeddings': 12,
}

BIT = {
    'attention': 'elastic',
    'activation': 'relu',
    'linear_cfg': {
        'type': 'surge_mm.SurgeLinear',
        'activation': {'type': 'ElasticSign'},
        'weight': {'type': 'BiT'},
    },
    'ffn_activation': {'type': 'ElasticBinary'},
    'embedding_weight': {'type': 'ScaledSign'},
}
BIBERT = {
    'attention': 'bi',
    'linear_cfg': {
        'type': 'surge_mm.SurgeLinear',
        'activation': {'type': 'STESign'},
        'weight': {'type': 'BiBERT'},
        'compensator': None,
    },
    'embedding_weight': {'type': 'BiBERT'},
}
"""Settings of BiT, with SURGE, and of BiBERT."""


def text_batch(count=4, length=7, padding=0, seed=0):
    """Return inputs of ``length`` tokens and ``padding``, of which the last text has one token less."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, length)
    inputs = {
        'input_ids': torch.randint(1, SIZES['vocab_size'], shape, generator=generator),
        'token_type_ids': torch.randint(2, shape, generator=generator),
        'attention_mask': torch.ones(shape, dtype=torch.int64),
    }
    for values in inputs.values():
        values[-1, -1] = 0
    return {name: torch.nn.functional.pad(value, (0, padding)) for name, value in inputs.items()}


def text_classifier(num_classes=2, dropout=0.0, init_cfg=None, backbone_init=None, **settings):
    """Build a TextClassifier of 2 layers with 16 features, initialized and in training mode."""
    torch.manual_seed(0)
    backbone = {
        'type': 'surge_mm.SurgeBert',
        'hidden_dropout_prob': dropout,
        'attention_probs_dropout_prob': dropout,
        'init_cfg': backbone_init,
        **SIZES,
        **settings,
    }
    model = TextClassifier(backbone, num_classes, dropout=dropout, init_cfg=init_cfg)
    model.init_weights()
    return model


def labeled(*labels):
    return [DataSample().set_gt_label(label) for label in labels]
