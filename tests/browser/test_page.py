"""The page that is exported with a WebAssembly module, in Chromium with a camera that shows a video."""

import base64

import cv2
import numpy as np
import pytest
import torch
from helpers.packed_files import detector_config, trained_model

from surge_mm.datasets.digits import make_digits
from surge_mm.deploy import Detector, load_packed, pack
from surge_mm.deploy.c.companions import Companions
from surge_mm.deploy.c.export import export_c

from .chromium import CHROMIUM, Chromium

DETECT = """ready.then(() => {{
    const bytes = Uint8Array.from(atob('{pixels}'), (character) => character.charCodeAt(0));
    return detect(new ImageData(new Uint8ClampedArray(bytes.buffer), {width}, {height}));
}})"""


@pytest.fixture(scope='module')
def model(request):
    if path := request.config.getoption('--detector'):
        return load_packed(path)
    cfg = detector_config()
    model = trained_model(cfg)
    torch.nn.init.normal_(model.bbox_head.conv_cls.weight, std=0.05)
    model = pack(model)
    model.cfg, model.dataset_meta = cfg, {'classes': tuple('0123456789')}
    return model


@pytest.fixture(scope='module')
def pictures(tmp_path_factory):
    folder = make_digits(tmp_path_factory.mktemp('digits'), train=1, val=1, test=6, size=128)
    return [cv2.imread(str(path)) for path in sorted(folder.rglob('*.jpg'))]


@pytest.fixture(scope='module')
def browser(model, pictures, tmp_path_factory):
    pytest.importorskip('ziglang')
    folder = tmp_path_factory.mktemp('page')
    companions = Companions(folder / 'net.wasm')
    companions.write(export_c(model, companions.c_file))
    frames = []
    for picture in pictures:
        larger = cv2.resize(picture, (512, 512), interpolation=cv2.INTER_CUBIC)
        frames += [cv2.imencode('.jpg', larger)[1].tobytes()] * 30
    (folder / 'video.mjpeg').write_bytes(b''.join(frames))
    address = f'file://{companions.page}#camera'
    with Chromium(folder / 'profile', address, folder / 'video.mjpeg') as browser:
        browser.until(lambda: browser.evaluate('typeof ready === "object"'))
        yield browser


pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='no Chromium')


def test_boxes_of_pictures_equal_those_of_the_packed_model(browser, model, pictures):
    detector = Detector(model)
    count = 0
    for number, picture in enumerate(pictures):
        picture = picture[: 128 - 9 * number, 5 * number :]
        height, width = picture.shape[:2]
        rgba = np.dstack([picture[..., ::-1], np.full((height, width), 255, np.uint8)])
        pixels = base64.b64encode(rgba.tobytes()).decode()
        found = browser.evaluate(DETECT.format(pixels=pixels, width=width, height=height))
        expected = detector(picture)
        count += len(found)
        assert [one['label'] for one in found] == expected.labels.tolist()
        scores, boxes = ([one[key] for one in found] for key in ('score', 'bbox'))
        np.testing.assert_allclose(scores, expected.scores, rtol=0, atol=1e-4)
        np.testing.assert_allclose(np.reshape(boxes, (-1, 4)), expected.boxes, rtol=0, atol=0.01)
    assert count > len(pictures)


def test_the_camera_runs_and_its_boxes_are_drawn(browser, request):
    browser.until(lambda: browser.evaluate('frames') > 5)
    first = browser.evaluate('frames')
    browser.until(lambda: browser.evaluate('frames') > first + 5)
    text = browser.evaluate("element('text').value")
    print(text)
    assert ' boxes in ' in text and text.endswith(' ms')
    if path := request.config.getoption('--screenshot'):
        size = {'width': 660, 'height': 780, 'deviceScaleFactor': 1, 'mobile': False}
        browser.call('Emulation.setDeviceMetricsOverride', **size)
        wanted = 'parseInt(element("text").value) > 4'
        browser.until(lambda: browser.evaluate(wanted))
        image = browser.call('Page.captureScreenshot', format='png')['data']
        with open(path, 'wb') as file:
            file.write(base64.b64decode(image))


def test_a_large_picture_and_one_that_does_not_fit(browser):
    browser.evaluate('stopCamera()')
    large = 'detect(new ImageData(4000, 3000)).length >= 0'
    assert browser.evaluate(f'ready.then(() => {large})')
    narrow = '(() => { try { detect(new ImageData(1, 4000)); } catch (error) { return error.message; } })()'
    assert 'does not fit the network' in browser.evaluate(narrow)


def test_a_browser_without_vectors_is_told(browser):
    lacking = '(() => { const has = WebAssembly.validate; WebAssembly.validate = () => false; return has; })()'
    message = browser.evaluate(
        f'(() => {{ const has = {lacking}; const loaded = load().catch((error) => error.message);'
        ' WebAssembly.validate = has; return loaded; })()'
    )
    assert 'lacks the vector instructions' in message
