import pytest
from helpers.digits_configs import config, message_of, total_boxes, voc

from surge_mm.preflight.datasets import check_datasets


def test_malformed_xml_files_are_named_with_their_number(folder):
    xml = folder / 'VOC2007/Annotations'
    (xml / '000001.xml').write_text('<annotation><object>')
    (xml / '000002.xml').unlink()
    (xml / '000003.xml').write_text(
        (xml / '000003.xml').read_text().replace('<xmin>', '<xmin>x', 1)
    )
    (xml / '000004.xml').write_text((xml / '000004.xml').read_text().replace('name>', 'label>'))
    message = message_of(config(voc('train')))
    assert '4 of the 6 annotation files of set/VOC2007/ImageSets/Main/train.txt' in message
    assert '000001.xml is malformed (no element found' in message
    assert '000002.xml is missing' in message
    assert '000003.xml is malformed (object 0: ' in message
    assert '000004.xml is malformed (object 0: no name)' in message


def test_difficult_objects_are_not_trained_on(folder):
    def mark(xml):
        xml.write_text(xml.read_text().replace('difficult>0<', 'difficult>1<'))

    xmls = sorted((folder / 'VOC2007/Annotations').iterdir())
    marked = xmls[0].read_text().count('<object>')
    mark(xmls[0])
    line = check_datasets(config(voc('train')))[0]
    assert f'6 images, {total_boxes(folder) - marked} boxes of ' in line
    assert f'; {marked} boxes are ignored (iscrowd, difficult' in line
    for xml in xmls:
        mark(xml)
    assert f'MMDetection ignores {total_boxes(folder)} boxes' in message_of(config(voc('train')))


def test_boxes_below_bbox_min_size_are_not_trained_on(folder):
    def with_size(size):
        return config(voc('train', filter_cfg={'bbox_min_size': size}))

    assert 'ignored' not in check_datasets(with_size(1))[0]
    assert f'MMDetection ignores {total_boxes(folder)} boxes' in message_of(with_size(1000))


def test_boxes_of_names_outside_the_class_list_may_be_malformed(folder):
    xml = folder / 'VOC2007/Annotations/000001.xml'
    bad = '<object><name>cat</name><difficult/><bndbox><xmin>x</xmin></bndbox></object><object><name/></object>'
    xml.write_text(xml.read_text().replace('</annotation>', f'{bad}</annotation>'))
    lines = check_datasets(config(voc('train')))
    assert f'6 images, {total_boxes(folder)} boxes of ' in lines[0]
    assert any(
        '2 boxes of names outside the class list are left out: cat (1), an empty name (1)' in x
        for x in lines
    )
    message = message_of(config(voc('train', metainfo={'classes': ('0', 'cat')})))
    assert '000001.xml is malformed (object ' in message


def test_an_empty_voc_split_is_refused(folder):
    (folder / 'VOC2007/ImageSets/Main/train.txt').write_text('')
    assert 'train.txt lists no image' in message_of(config(voc('train')))


@pytest.mark.parametrize(
    ('old', 'new', 'words'),
    [
        ('<xmin>', '<xmin>inf<!--', 'object 0: cannot convert float infinity'),
        ('<xmin>', '<xmin>nan<!--', 'object 0: cannot convert float NaN'),
        ('<width>', '<width>null<!--', "size: invalid literal for int() with base 10: 'null'"),
        ('<annotation>', '<?xml version="1.0" encoding="gb2312"?><annotation>', 'multi-byte'),
    ],
)
def test_what_the_host_cannot_read_is_refused(folder, old, new, words):
    xml = folder / 'VOC2007/Annotations/000002.xml'
    text = xml.read_text()
    if '<!--' in new:
        end = old.replace('<', '</')
        text = text.replace(end, f'-->{end}', 1)
    xml.write_text(text.replace(old, new, 1))
    message = message_of(config(voc('train')))
    assert '000002.xml is malformed (' in message and words in message


def test_a_list_of_names_in_another_encoding_is_refused(folder):
    (folder / 'VOC2007/ImageSets/Main/train.txt').write_bytes('ä'.encode('latin-1'))
    assert 'train.txt is not readable as a list of names' in message_of(config(voc('train')))
