import hashlib
import json
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from surge_mm.datasets.check import DatasetError, check_datasets
from surge_mm.datasets.digits import CLASSES, make_digits

LOAD = [{'type': 'LoadImageFromFile'}, {'type': 'LoadAnnotations', 'with_bbox': True}]
PACK = {'type': 'PackDetInputs', 'meta_keys': ('img_id',)}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    return make_digits(tmp_path_factory.mktemp('digits') / 'set', train=6, val=3)


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    """A copy to damage, named by a path relative to the current directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(made, 'set')
    return Path('set')


def coco(split: str, **changes) -> dict:
    return {
        'type': 'CocoDataset',
        'data_root': 'set',
        'ann_file': f'annotations/{split}.json',
        'data_prefix': {'img': 'VOC2007/JPEGImages/'},
        'metainfo': {'classes': CLASSES},
        'pipeline': [*LOAD, PACK],
        'test_mode': split != 'train',
        **changes,
    }


def voc(split: str, **changes) -> dict:
    return {
        **coco(split),
        'type': 'VOCDataset',
        'ann_file': f'VOC2007/ImageSets/Main/{split}.txt',
        'data_prefix': {'sub_data_root': 'VOC2007/'},
        **changes,
    }


def config(train: dict, val: dict | None = None, **rest) -> Config:
    content = {'default_scope': 'mmdet', 'train_dataloader': {'dataset': train}, **rest}
    if val:
        content['val_dataloader'] = {'dataset': val}
    return Config(content)


def message_of(cfg: Config, **kwargs) -> str:
    with pytest.raises(DatasetError) as error:
        check_datasets(cfg, **kwargs)
    return str(error.value)


def edit_json(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def flatten_first_box(folder: Path, image_id: int) -> str:
    """Gives an image's first object zero width in the VOC layout; returns its name."""
    path = folder / f'VOC2007/Annotations/{image_id:06d}.xml'
    text = path.read_text()
    xmin = text.split('<xmin>')[1].split('<')[0]
    xmax = text.split('<xmax>')[1].split('<')[0]
    path.write_text(text.replace(f'<xmax>{xmax}<', f'<xmax>{xmin}<', 1))
    return text.split('<name>')[1].split('<')[0]


@pytest.mark.parametrize('layout', [coco, voc])
def test_good_data_gives_a_line_of_counts_per_dataset(folder, layout):
    lines = check_datasets(config(layout('train'), layout('val')))
    counts = {
        s: len(json.loads((folder / f'annotations/{s}.json').read_text())['annotations'])
        for s in ('train', 'val')
    }
    assert lines[0].startswith(f'train_dataloader.dataset: 6 images, {counts["train"]} boxes of ')
    assert any(
        line.startswith(f'val_dataloader.dataset: 3 images, {counts["val"]} boxes of ')
        for line in lines
    )


def test_a_config_without_dataloaders_has_nothing_to_check():
    assert check_datasets(Config({'default_scope': 'mmdet', 'train_dataloader': None})) == []


@pytest.mark.parametrize('layout', [coco, voc])
def test_a_missing_annotation_file_names_key_path_directory_and_a_way_out_that_works(
    folder, layout
):
    cfg = config(layout('train', data_root='elsewhere'))
    message = message_of(cfg)
    assert message.startswith('train_dataloader.dataset.ann_file is not there: elsewhere/')
    assert str(Path.cwd()) in message
    assert '--cfg-options train_dataloader.dataset.data_root=FOLDER' in message
    cfg.merge_from_dict({'train_dataloader.dataset.data_root': 'set'})
    assert '6 images' in check_datasets(cfg)[0]


@pytest.mark.parametrize(
    ('dataset', 'key', 'path'),
    [
        (coco('train', data_prefix={'img': 'pictures'}), 'data_prefix.img', 'set/pictures'),
        (
            voc('train', data_prefix={'sub_data_root': 'VOC2012/'}),
            'data_prefix.sub_data_root',
            'set/VOC2012/JPEGImages',
        ),
        (voc('train', ann_subdir='xml'), 'data_prefix.sub_data_root', 'set/VOC2007/xml'),
    ],
)
def test_a_missing_folder_names_key_and_path(folder, dataset, key, path):
    assert f'train_dataloader.dataset.{key} is not there: {path}\n' in message_of(config(dataset))


def test_datasets_inside_wrappers_are_named_by_keys_that_cfg_options_take(folder):
    concat = {'type': 'ConcatDataset', 'datasets': [voc('train'), voc('val', data_root='away')]}
    cfg = config({'type': 'RepeatDataset', 'times': 3, 'dataset': concat})
    key = 'train_dataloader.dataset.dataset.datasets.1'
    message = message_of(cfg)
    assert message.startswith(f'{key}.ann_file is not there: away/')
    cfg.merge_from_dict({f'{key}.data_root': 'set'})
    assert [line.split(': ')[0] for line in check_datasets(cfg) if 'images' in line] == [
        'train_dataloader.dataset.dataset.datasets.0',
        key,
    ]


def test_everything_wrong_is_said_in_one_error(folder):
    (folder / 'VOC2007/JPEGImages/000008.jpg').write_bytes(b'')
    cfg = config(
        coco('train', data_root='away'),
        coco('val'),
        val_evaluator={'type': 'CocoMetric', 'ann_file': 'x'},
    )
    message = message_of(cfg)
    assert 'train_dataloader.dataset.ann_file is not there' in message
    assert 'val_evaluator.ann_file is not there: x' in message
    assert '000008.jpg is empty' in message


def test_only_the_splits_asked_for_are_checked(folder):
    cfg = config(coco('train'), test_dataloader={'dataset': coco('val', data_root='away')})
    check_datasets(cfg)
    assert 'test_dataloader.dataset.ann_file' in message_of(cfg, splits=('test',))


@pytest.mark.parametrize('layout', [coco, voc])
def test_a_class_list_that_matches_nothing_lists_both_sides(folder, layout):
    message = message_of(config(layout('train', metainfo={'classes': ('cat', 'dog')})))
    assert 'train_dataloader.dataset.metainfo.classes matches no annotation of set/' in message
    assert 'the class list has: cat, dog\n' in message
    listed = message.split('the annotations have: ')[1].split('\n')[0].split(', ')
    assert set(listed) <= set('0123456789') and len(listed) >= 5


def test_the_class_list_of_the_dataset_class_counts_when_the_config_has_none(folder):
    dataset = voc('train')
    del dataset['metainfo']
    assert 'aeroplane' in message_of(config(dataset))


@pytest.mark.parametrize('layout', [coco, voc])
def test_a_class_list_that_matches_in_part_is_a_warning_with_counts(folder, layout):
    annotations = json.loads((folder / 'annotations/train.json').read_text())['annotations']
    zeros = sum(a['category_id'] == 1 for a in annotations)
    assert zeros, 'the demo set of this seed must show a 0'
    lines = check_datasets(config(layout('train', metainfo={'classes': ('0', 'cat')})))
    assert f'6 images, {zeros} boxes of 1 classes' in lines[0]
    warnings = [line for line in lines if line.startswith('warning: ')]
    assert any('1 of 2 classes have no box: cat' in line for line in warnings)
    left_out = len(annotations) - zeros
    assert any(f'{left_out} boxes of names outside the class list' in line for line in warnings)


def test_another_order_of_classes_than_the_coco_files_is_a_warning(folder):
    lines = check_datasets(config(coco('train', metainfo={'classes': CLASSES[::-1]})))
    assert any('numbers the classes as set/annotations/train.json does' in line for line in lines)
    assert not any('numbers the classes' in line for line in check_datasets(config(coco('train'))))


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


def test_classes_given_as_a_string_are_refused(folder):
    message = message_of(config(coco('train', metainfo={'classes': 'digit'})))
    assert "classes='digit' is no list" in message


def damage_bbox(content):
    content['annotations'][0]['bbox'] = [1, 2, 3]


def damage_reference(content):
    content['annotations'][0]['image_id'] = 999


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (lambda c: c.pop('categories'), 'it needs "images" and "categories"'),
        (lambda c: c['annotations'][0].pop('area'), 'annotation (id 1) has no "area"'),
        (lambda c: c['images'][1].pop('file_name'), 'image (id 2) has no "file_name"'),
        (lambda c: c['annotations'][1].update(id=1), 'annotation (id 1) has the id of another'),
        (lambda c: c['categories'][1].update(name='0'), 'categories of the same name: 0'),
        (damage_bbox, 'annotation (id 1) has bbox=[1, 2, 3], not [x, y, width, height]'),
        (damage_reference, 'annotation 1 refers to image 999'),
        (lambda c: c['annotations'].clear(), 'has no annotation to train on'),
    ],
)
def test_a_malformed_coco_file_is_named_with_what_it_lacks(folder, change, words):
    edit_json(folder / 'annotations/train.json', change)
    message = message_of(config(coco('train')))
    assert 'set/annotations/train.json' in message and words in message


def test_a_cut_off_json_is_named(folder):
    path = folder / 'annotations/train.json'
    path.write_text(path.read_text()[:500])
    assert message_of(config(coco('train'))).startswith(f'{path} is not readable as JSON: ')


def test_a_coco_test_file_without_annotations_is_fine_outside_training(folder):
    edit_json(folder / 'annotations/val.json', lambda c: c.pop('annotations'))
    cfg = config(coco('train'), test_dataloader={'dataset': coco('val')})
    assert '3 images, 0 boxes' in check_datasets(cfg, splits=['test'])[0]


def test_malformed_xml_files_are_named_with_their_number(folder):
    xml = folder / 'VOC2007/Annotations'
    (xml / '000001.xml').write_text('<annotation><object>')
    (xml / '000002.xml').unlink()
    (xml / '000003.xml').write_text(
        (xml / '000003.xml').read_text().replace('<xmin>', '<xmin>x', 1)
    )
    (xml / '000004.xml').write_text((xml / '000004.xml').read_text().replace('name>', 'label>'))
    message = message_of(config(voc('train')))
    assert (
        '4 of the 6 annotation files that set/VOC2007/ImageSets/Main/train.txt asks for' in message
    )
    assert '000001.xml is malformed (no element found' in message
    assert '000002.xml is missing' in message
    assert '000003.xml is malformed (object 0: ' in message
    assert '000004.xml is malformed (object 0 has no name)' in message


def test_an_empty_voc_split_is_refused(folder):
    (folder / 'VOC2007/ImageSets/Main/train.txt').write_text('')
    assert 'train.txt lists no image' in message_of(config(voc('train')))


@pytest.mark.parametrize('layout', [coco, voc])
def test_unusable_images_are_named_with_their_number(folder, layout):
    images = folder / 'VOC2007/JPEGImages'
    (images / '000001.jpg').unlink()
    (images / '000002.jpg').write_bytes(b'')
    (images / '000003.jpg').write_bytes((images / '000003.jpg').read_bytes()[:3000])
    message = message_of(config(layout('train'), layout('val')))
    assert message.startswith('train_dataloader.dataset: 3 of 6 image files cannot be used:')
    for words in ('000001.jpg is missing', '000002.jpg is empty', '000003.jpg is truncated'):
        assert words in message


def test_of_many_unusable_images_the_first_few_are_named(folder):
    for image in (folder / 'VOC2007/JPEGImages').iterdir():
        image.write_bytes(b'')
    message = message_of(config(coco('train')))
    assert '6 of 6 image files' in message and 'and 1 more' in message
    assert message.count('is empty') == 5


def boxes_that_arrive(dataset: dict) -> int:
    init_default_scope('mmdet')
    built = DATASETS.build(dataset)
    samples = [built[n]['data_samples'] for n in range(len(built))]
    boxes = [s.gt_instances.bboxes for s in samples]
    assert all((b.widths > 0).all() and (b.heights > 0).all() for b in boxes)
    return sum(len(b) for b in boxes)


def test_voc_boxes_of_zero_size_are_named_counted_and_kept_from_the_model(folder):
    names = {i: flatten_first_box(folder, i) for i in (2, 5, 8)}
    cfg = config(voc('train'), voc('val'))
    text = '\n'.join(check_datasets(cfg))
    assert '2 boxes of zero size skipped' in text and '1 box of zero size skipped' in text
    assert all(f'{i:06d} {name}' in text for i, name in names.items())
    assert 'added to the pipeline' in text
    for split, flat in (('train', 2), ('val', 1)):
        content = json.loads((folder / f'annotations/{split}.json').read_text())
        arriving = boxes_that_arrive(cfg[f'{split}_dataloader'].dataset)
        assert arriving == len(content['annotations']) - flat


def test_an_image_whose_only_boxes_have_zero_size_still_loads(folder):
    xml = folder / 'VOC2007/Annotations/000007.xml'
    size, _, rest = xml.read_text().partition('<object>')
    xml.write_text(size + '<object>' + rest.split('</object>')[0] + '</object></annotation>')
    flatten_first_box(folder, 7)
    cfg = config(voc('train'), voc('val'))
    check_datasets(cfg)
    assert boxes_that_arrive(cfg.val_dataloader.dataset) > 0


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'filter_cfg': {'bbox_min_size': 1}}, 'by filter_cfg.bbox_min_size'),
        (
            {'pipeline': [*LOAD, {'type': 'FilterAnnotations', 'min_gt_bbox_wh': (0, 0)}, PACK]},
            'by FilterAnnotations in the pipeline',
        ),
    ],
)
def test_a_config_that_leaves_out_boxes_of_zero_size_is_not_changed(folder, changes, words):
    flatten_first_box(folder, 2)
    cfg = config(voc('train', **changes))
    before = cfg.to_dict()
    assert any(words in line for line in check_datasets(cfg))
    assert cfg.to_dict() == before
    boxes_that_arrive(cfg.train_dataloader.dataset)


@pytest.mark.parametrize('layout', [coco, voc])
def test_a_config_with_good_boxes_is_not_changed(folder, layout):
    cfg = config(layout('train'), layout('val'))
    before = cfg.to_dict()
    check_datasets(cfg)
    assert cfg.to_dict() == before


def test_coco_boxes_of_zero_size_are_named_counted_and_left_out_by_the_host(folder):
    def flatten(content):
        content['annotations'][0]['bbox'][2] = 0
        content['annotations'][1]['bbox'][3] = -4

    for split in ('train', 'val'):
        edit_json(folder / f'annotations/{split}.json', flatten)
    evaluator = {'type': 'CocoMetric', 'ann_file': 'set/annotations/val.json'}
    cfg = config(coco('train'), coco('val'), val_evaluator=evaluator)
    text = '\n'.join(check_datasets(cfg))
    words = (
        '2 boxes of zero size or outside of the image skipped (MMDetection leaves them out): 00000'
    )
    assert text.count(words) == 2
    assert 'val_evaluator: the COCO evaluation counts 2 boxes' in text
    for split in ('train', 'val'):
        total = len(json.loads((folder / f'annotations/{split}.json').read_text())['annotations'])
        assert boxes_that_arrive(cfg[f'{split}_dataloader'].dataset) == total - 2


def test_an_evaluator_of_other_images_is_refused(folder):
    evaluators = [
        {'type': 'DumpDetResults', 'out_file_path': 'x.pkl'},
        {'type': 'CocoMetric', 'ann_file': 'set/annotations/train.json'},
    ]
    message = message_of(config(coco('train'), coco('val'), val_evaluator=evaluators))
    assert 'val_evaluator.1.ann_file=set/annotations/train.json lacks 3 of the 3 images' in message


def test_an_evaluator_needs_iscrowd(folder):
    edit_json(folder / 'annotations/val.json', lambda c: c['annotations'][0].pop('iscrowd'))
    evaluator = {'type': 'CocoMetric', 'ann_file': 'set/annotations/val.json'}
    message = message_of(config(coco('train'), coco('val'), val_evaluator=evaluator))
    assert '1 annotations of set/annotations/val.json have no "iscrowd"' in message


def test_a_dataset_of_the_other_host_or_a_misspelt_one_is_refused(folder):
    cfg = config(coco('train'))
    cfg.default_scope = 'mmpretrain'
    assert "train_dataloader.dataset.type='CocoDataset' is no dataset" in message_of(cfg)
    assert "type='CocoDatset'" in message_of(config(coco('train', type='CocoDatset')))


def test_a_list_of_annotation_files_is_refused_with_the_way_out(folder):
    message = message_of(config(coco('train', ann_file=['a.json', 'b.json'])))
    assert 'train_dataloader.dataset.ann_file is a list' in message and 'ConcatDataset' in message


def test_an_argument_that_the_dataset_does_not_take_is_refused_by_key(folder):
    message = message_of(config(coco('train', ann_flie='x')))
    assert message.startswith('train_dataloader.dataset: CocoDataset cannot be built')
    assert 'ann_flie' in message


def classification(**dataset) -> Config:
    return Config({'default_scope': 'mmpretrain', 'train_dataloader': {'dataset': dataset}})


def test_mmpretrain_datasets_are_checked_for_existence(folder):
    present = classification(type='ImageNet', data_root='set', split='train')
    assert 'train_dataloader.dataset.data_prefix is not there: set/train' in message_of(present)
    Path('set/train').mkdir()
    assert check_datasets(present) == ['train_dataloader.dataset: the files are there (ImageNet)']
    away = classification(type='ImageNet', data_root='away', split='train')
    assert 'train_dataloader.dataset.data_root is not there: away' in message_of(away)
    listed = classification(type='CustomDataset', data_root='set', ann_file='meta/train.txt')
    assert 'train_dataloader.dataset.ann_file is not there: set/meta/train.txt' in message_of(
        listed
    )


def test_cifar_is_checked_unless_the_host_may_download_it(folder, monkeypatch):
    asked = {'type': 'CIFAR10', 'data_root': 'cifar', 'split': 'train'}
    assert check_datasets(classification(**asked))
    assert 'cifar' in message_of(classification(**asked, download=False))
    batches = Path('cifar/cifar-10-batches-py')
    batches.mkdir(parents=True)
    assert 'data_batch_1' in message_of(classification(**asked, download=False))
    for number in range(1, 6):
        (batches / f'data_batch_{number}').touch()
    assert 'is damaged' in message_of(classification(**asked, download=False))
    empty = hashlib.md5(b'').hexdigest()
    listed = [[f'data_batch_{number}', empty] for number in range(1, 6)]
    monkeypatch.setattr('mmpretrain.datasets.CIFAR10.train_list', listed)
    assert check_datasets(classification(**asked, download=False))
