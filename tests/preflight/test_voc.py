import pytest
from helpers.digits_configs import config, message_of, voc


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
