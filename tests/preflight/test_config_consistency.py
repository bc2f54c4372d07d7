import pytest
from helpers.digits_configs import coco, config, edit_json, message_of, voc

from surge_mm.datasets.digits import CLASSES
from surge_mm.preflight.datasets import check_datasets


@pytest.mark.parametrize('dataset', [coco, voc])
def test_a_name_that_a_class_list_has_twice_is_refused(folder, dataset):
    message = message_of(config(dataset('train', metainfo={'classes': ('0', '1', '0')})))
    assert message.startswith("train_dataloader.dataset.metainfo.classes has '0' 2 times")


@pytest.mark.parametrize(
    'model, name, number',
    [
        ({'bbox_head': {'num_classes': 9}}, 'model.bbox_head', 9),
        ({'roi_head': {'bbox_head': {'num_classes': 80}}}, 'model.roi_head.bbox_head', 80),
        (
            {'roi_head': {'bbox_head': [{'num_classes': 10}, {'num_classes': 80}]}},
            'model.roi_head.bbox_head.1',
            80,
        ),
    ],
)
@pytest.mark.parametrize('dataset', [coco, voc])
def test_a_head_for_another_number_of_classes_is_refused(folder, dataset, model, name, number):
    message = message_of(config(dataset('train'), model=model))
    assert f'{name}.num_classes={number}, but train_dataloader.dataset has 10 classes' in message
    assert f'--cfg-options {name}.num_classes=10' in message


def test_a_proposal_head_has_no_classes_to_compare(folder):
    model = {'rpn_head': {'num_classes': 1}, 'bbox_head': {'num_classes': 10}}
    assert check_datasets(config(coco('train'), model=model))


def test_boxes_of_a_panoptic_dataset_have_its_things_as_classes(folder):
    metainfo = {'classes': (*CLASSES, 'sky', 'sea'), 'thing_classes': CLASSES}
    cfg = config(coco('train', metainfo=metainfo), model={'bbox_head': {'num_classes': 10}})
    assert check_datasets(cfg)


def test_a_head_that_compares_with_a_prompt_has_no_number_of_classes(folder):
    model = {'language_model': {'type': 'BertModel'}, 'bbox_head': {'num_classes': 256}}
    assert check_datasets(config(coco('train'), model=model))


def test_an_evaluator_of_other_images_is_refused(folder):
    evaluators = [
        {'type': 'DumpDetResults', 'out_file_path': 'x.pkl'},
        {'type': 'CocoMetric', 'ann_file': 'set/annotations/train.json'},
    ]
    message = message_of(config(coco('train'), coco('val'), val_evaluator=evaluators))
    assert 'val_evaluator.1.ann_file=set/annotations/train.json lacks 3 of the 3 images' in message


def test_an_evaluator_needs_the_boxes_that_training_ignores(folder):
    change = {'ignore': 1, 'bbox': []}
    edit_json(folder / 'annotations/val.json', lambda c: c['annotations'][0].update(change))
    assert check_datasets(config(coco('train'), coco('val')))
    evaluator = {'type': 'CocoMetric', 'ann_file': 'set/annotations/val.json'}
    message = message_of(config(coco('train'), coco('val'), val_evaluator=evaluator))
    assert '1 annotations of set/annotations/val.json with "ignore" have no "bbox"' in message


def test_an_evaluator_reads_only_annotations_of_its_images(folder):
    def orphan(content):
        content['annotations'][0]['image_id'] = 999
        del content['annotations'][0]['iscrowd']

    edit_json(folder / 'annotations/val.json', orphan)
    evaluator = {'type': 'CocoMetric', 'ann_file': 'set/annotations/val.json'}
    assert check_datasets(config(coco('train'), coco('val'), val_evaluator=evaluator))


def test_an_evaluator_needs_iscrowd(folder):
    edit_json(folder / 'annotations/val.json', lambda c: c['annotations'][0].pop('iscrowd'))
    evaluator = {'type': 'CocoMetric', 'ann_file': 'set/annotations/val.json'}
    message = message_of(config(coco('train'), coco('val'), val_evaluator=evaluator))
    assert '1 annotations of set/annotations/val.json have no "iscrowd"' in message
