import pytest
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS

import surge_mm  # noqa: F401
from surge_mm.utils.errors import DatasetError


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('content', [b'', b'no image'])
def test_an_image_that_is_not_decoded_is_named(tmp_path, backend, content):
    path = tmp_path / 'broken.jpg'
    path.write_bytes(content)
    load = TRANSFORMS.build({'type': 'LoadImageFromFile', 'imdecode_backend': backend})
    with pytest.raises(DatasetError, match=f"^image '{path}' cannot be loaded: .*check_data"):
        load({'img_path': str(path)})


def test_an_image_that_is_missing_is_named(tmp_path):
    with pytest.raises(DatasetError, match="'nowhere.jpg' cannot be loaded: .*No such file"):
        LoadImageFromFile()({'img_path': 'nowhere.jpg'})


def test_empty_images_may_be_ignored_as_before(tmp_path):
    (tmp_path / 'empty.jpg').touch()
    load = LoadImageFromFile(ignore_empty=True)
    assert load({'img_path': str(tmp_path / 'empty.jpg')}) is None
