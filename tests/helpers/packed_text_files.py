"""The packed file of a small classifier of sentences of SST-2."""

import torch
from helpers.glue_files import write_sst2, write_vocabulary
from helpers.glue_runs import SIZES
from helpers.text_models import BIT
from mmengine.config import Config

from surge_mm.deploy import pack, save_packed
from surge_mm.launch.runner import build_model

BACKBONE = {'type': 'surge_mm.SurgeBert', **SIZES, 'max_position_embeddings': 16, **BIT}


def text_config(folder, task='sst2', num_classes=2, **dataset):
    """Write a vocabulary, and return a config of BiT with SURGE for a task of GLUE."""
    dataset = {'type': 'surge_mm.GlueDataset', 'task': task, 'max_length': 16, **dataset}
    dataset = {'vocab': str(write_vocabulary(folder)), 'data_root': str(folder), **dataset}
    return Config(
        {
            'default_scope': 'mmpretrain',
            'model': {
                'type': 'surge_mm.TextClassifier',
                'backbone': BACKBONE,
                'num_classes': num_classes,
                'data_preprocessor': {'type': 'surge_mm.TextDataPreprocessor'},
            },
            'test_dataloader': {'dataset': dataset},
        }
    )


def text_model(cfg):
    """Return a classifier whose learned scales have started, in evaluation mode."""
    torch.manual_seed(0)
    model = build_model(cfg)
    torch.nn.init.normal_(model.classifier.weight)
    ids = torch.randint(1, SIZES['vocab_size'], (4, 7))
    inputs = {'input_ids': ids, 'token_type_ids': ids * 0, 'attention_mask': ids * 0 + 1}
    with torch.no_grad():
        model.train()(inputs)
    return model.eval()


def text_file(folder, **settings):
    """Write ``text.safetensors`` and SST-2's ``dev.tsv`` into a folder, and return the path of the former."""
    cfg = text_config(folder, **settings)
    write_sst2(folder, 6, 'dev')
    save_packed(pack(text_model(cfg)), folder / 'text.safetensors', cfg)
    return folder / 'text.safetensors'
