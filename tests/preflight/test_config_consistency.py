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


def reorder(folder, split, order):
    """List the categories of a COCO file in the order of these names, and no other."""

    def change(content):
        by_name = {category['name']: category for category in content['categories']}
        content['categories'] = [by_name[name] for name in order]

    edit_json(folder / f'annotations/{split}.json', change)


def test_another_order_of_categories_in_val_than_in_train_is_refused(folder):
    swapped = ['1', '0', *CLASSES[2:]]
    reorder(folder, 'val', swapped)
    message = message_of(config(coco('train'), coco('val')))
    assert message.startswith(
        "class '1' has label 1 in train_dataloader.dataset, but label 0 in val_dataloader.dataset\n"
    )
    assert 'the classes of val_dataloader.dataset: 1, 0, 2, 3' in message
    reorder(folder, 'train', swapped)
    assert check_datasets(config(coco('train'), coco('val')))


def test_a_category_that_train_lacks_shifts_the_labels_after_it(folder):
    reorder(folder, 'train', [*CLASSES[:3], *CLASSES[4:]])
    message = message_of(config(coco('train'), coco('val')))
    assert message.startswith("class '4' has label 3 in train_dataloader.dataset, but label 4 in")


def test_categories_that_are_not_used_or_lacking_at_the_end_shift_no_label(folder):
    reorder(folder, 'train', ['9', *CLASSES[:9]])
    reorder(folder, 'val', CLASSES[:7])
    used = {'metainfo': {'classes': CLASSES[:9]}}
    assert check_datasets(config(coco('train', **used), coco('val', **used)))


def test_another_order_of_the_class_list_of_voc_is_refused(folder):
    swapped = {'classes': ('1', '0', *CLASSES[2:])}
    message = message_of(config(voc('train'), voc('val', metainfo=swapped)))
    assert message.startswith("class '1' has label 1 in train_dataloader.dataset, but label 0 in")


def test_labels_of_datasets_that_are_trained_on_together_are_compared(folder):
    reorder(folder, 'val', CLASSES[::-1])
    sets = {'type': 'ConcatDataset', 'datasets': [coco('train'), coco('val')]}
    assert message_of(config(sets)).startswith("class '9' has label 9 in train_dataloader.dataset.")


@pytest.mark.parametrize(
    'model',
    [
        {'rpn_head': {'num_classes': 1}},
        {'language_model': {'type': 'BertModel'}, 'bbox_head': {'num_classes': 10}},
    ],
)
def test_labels_that_no_head_predicts_may_differ(folder, model):
    reorder(folder, 'val', CLASSES[::-1])
    assert check_datasets(config(coco('train'), coco('val'), model=model))


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
