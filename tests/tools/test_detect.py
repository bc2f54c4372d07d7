"""tools/detect.py on images, videos and a camera."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.tools import run_tool
from mmdet.apis import inference_detector
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmpretrain import ImageClassificationInferencer
from PIL import Image

from surge_mm.deploy import load_packed, pack, save_packed
from surge_mm.deploy.packed_file import allowed_classes
from surge_mm.utils.media import find_sources

ROOT = Path(__file__).parents[2]
DETECTOR = ROOT / 'configs/demo/ste_fcos_r18-light_10e_digits.py'
CLASSIFIER = ROOT / 'configs/cifar10_mini/ste_resnet20_12e_cifar10-mini.py'


def packed(config, folder, scope):
    cfg = Config.fromfile(config)
    if scope == 'mmdet':
        cfg.model.test_cfg.score_thr = 0.0  # of an untrained head
    with DefaultScope.overwrite_default_scope(scope):
        preprocessor = (
            {'data_preprocessor': cfg.data_preprocessor} if 'data_preprocessor' in cfg else {}
        )
        model = pack(MODELS.build({**preprocessor, **cfg.model}))
    save_packed(model, cfg, folder / 'model.safetensors')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Make a folder with packed models, images in two folders, a video, and files that are no images."""
    folder = tmp_path_factory.mktemp('detect')
    packed(DETECTOR, folder, 'mmdet')
    (folder / 'model.safetensors').rename(folder / 'detector.safetensors')
    packed(CLASSIFIER, folder, 'mmpretrain')
    (folder / 'model.safetensors').rename(folder / 'classifier.safetensors')
    (folder / 'images/sub').mkdir(parents=True)
    generator = np.random.default_rng(0)
    sizes = {
        'a.jpg': (128, 128),
        'b c.PNG': (90, 140),
        'sub/a.jpg': (64, 64),
        'line.png': (1, 3000),
    }
    for name, size in sizes.items():
        pixels = generator.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / 'images' / name)
    (folder / 'images/broken.jpg').write_bytes(b'no image')
    (folder / 'images/empty.jpg').write_bytes(b'')
    (folder / 'images/notes.txt').write_text('no image either')
    codec = cv2.VideoWriter.fourcc(*'MJPG')
    video = cv2.VideoWriter(str(folder / 'clip.avi'), codec, 10, (96, 64))
    for _ in range(3):
        video.write(generator.integers(0, 256, (64, 96, 3), dtype=np.uint8))
    video.release()
    return folder


def detect(folder, *words):
    return run_tool('detect', *words, '--threads', '1', folder=folder)


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_a_folder_is_drawn_and_timed_and_nothing_is_overwritten(folder):
    words = ['detector.safetensors', 'images', '--out', 'found', '--score-thr', '0']
    done = detect(folder, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert files_in(folder / 'found') == ['a.jpg', 'b c.PNG', 'sub/a.jpg']
    assert Image.open(folder / 'found/b c.PNG').size == (140, 90)
    drawn = np.asarray(Image.open(folder / 'found/a.jpg')).astype(int)
    assert np.abs(drawn - np.asarray(Image.open(folder / 'images/a.jpg')).astype(int)).max() > 50
    assert 'skipped: images/broken.jpg: is not a readable image' in done.stdout
    assert 'skipped: images/empty.jpg: is not a readable image' in done.stdout
    assert 'skipped: images/line.png: the model does not run on 1x3000 pixels: ' in done.stdout
    assert 'ms an image, of 3' in done.stdout and 'threads: 1' in done.stdout
    again = detect(folder, *words)
    assert again.returncode == 1
    assert "'found/a.jpg' exists already" in again.stderr and '--overwrite' in again.stderr
    (folder / 'found/a.jpg').unlink()
    (folder / 'found/a.jpg').symlink_to('/dev/full')
    full = detect(folder, *words, '--overwrite')
    assert full.returncode == 1
    assert "error: 'found/a.jpg'" in full.stderr and 'No space left on device' in full.stderr
    assert '--overwrite' in full.stderr and '--resume' not in full.stderr


def test_json_and_txt_have_what_the_host_predicts_for_images_of_a_pattern(folder):
    words = ['detector.safetensors', 'images/**/a.jpg', 'images/b c.PNG', '--out', 'texts']
    limit = 0.0125
    done = detect(folder, *words, '--json', 'found.json', '--save-txt', '--score-thr', str(limit))
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((folder / 'found.json').read_text())
    assert [result['file'] for result in found['results']] == [
        'images/a.jpg',
        'images/sub/a.jpg',
        'images/b c.PNG',
    ]
    model = load_packed(folder / 'detector.safetensors')
    expected = inference_detector(model, str(folder / 'images/b c.PNG')).pred_instances
    expected = expected[expected.scores >= limit]
    result = found['results'][2]
    assert 0 < len(result['found']) == len(expected) < 100
    assert [one['bbox'] for one in result['found']] == expected.bboxes.tolist()
    assert [one['score'] for one in result['found']] == expected.scores.tolist()
    assert [one['class'] for one in result['found']] == [
        model.dataset_meta['classes'][label] for label in expected.labels
    ]
    rows = np.loadtxt(folder / 'texts/labels/b c.txt', ndmin=2)
    assert rows[:, 0].tolist() == expected.labels.tolist()
    corners = np.hstack([rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2])
    assert corners * [140, 90, 140, 90] == pytest.approx(expected.bboxes.numpy(), abs=1e-3)
    assert (folder / 'texts/labels/sub/a.txt').is_file()


def test_a_video_and_a_camera_become_videos_of_as_many_frames(folder, monkeypatch):
    open_video = cv2.VideoCapture
    # a machine without a camera: its first one gives the frames of a file
    monkeypatch.setattr(
        cv2, 'VideoCapture', lambda name: open_video('clip.avi' if name == 0 else name)
    )
    words = ['detector.safetensors', 'clip.avi', '0', '--out', 'videos', '--json', 'videos.json']
    done = detect(folder, *words, '--save-txt')
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ('clip.mp4', 'camera_0.mp4'):
        video = cv2.VideoCapture(str(folder / 'videos' / name))
        assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 3 and video.get(cv2.CAP_PROP_FPS) == 10
        assert video.read()[1].shape == (64, 96, 3)
    found = json.loads((folder / 'videos.json').read_text())['results']
    assert [(result['file'], result['frame']) for result in found] == [
        (name, frame) for name in ('clip.avi', '0') for frame in range(3)
    ]
    labels = [name for name in files_in(folder / 'videos') if name.startswith('labels/clip')]
    assert labels == [f'labels/clip_{frame}.txt' for frame in range(3)]


def test_ctrl_c_ends_a_camera_and_completes_its_video(folder, monkeypatch):
    class Camera:
        def __init__(self, number):
            self.frames = 0

        def read(self):
            self.frames += 1
            if self.frames > 2:
                raise KeyboardInterrupt
            return True, np.full((32, 32, 3), 99, np.uint8)

        def get(self, key):
            return 0

        def release(self):
            pass

    open_video = cv2.VideoCapture
    monkeypatch.setattr(
        cv2, 'VideoCapture', lambda name: Camera(name) if name == 0 else open_video(name)
    )
    done = detect(folder, 'detector.safetensors', '0', '--out', 'camera')
    assert done.returncode == 0, done.stdout + done.stderr
    assert open_video(str(folder / 'camera/camera_0.mp4')).get(cv2.CAP_PROP_FRAME_COUNT) == 2


def test_a_classifier_writes_the_classes_that_the_host_predicts(folder):
    words = ['classifier.safetensors', 'images/a.jpg', '--out', 'classes', '--json', 'classes.json']
    done = detect(folder, *words, '--save-txt')
    assert done.returncode == 0, done.stdout + done.stderr
    model = load_packed(folder / 'classifier.safetensors')
    (expected,) = ImageClassificationInferencer(model)(str(folder / 'images/a.jpg'))
    (result,) = json.loads((folder / 'classes.json').read_text())['results']
    assert len(result['found']) == 5
    assert result['found'][0]['class'] == expected['pred_class']
    assert result['found'][0]['score'] == pytest.approx(expected['pred_score'])
    first = (folder / 'classes/labels/a.txt').read_text().splitlines()[0]
    assert first == f'{expected["pred_score"]:.4f} {expected["pred_class"]}'
    assert Image.open(folder / 'classes/a.jpg').size == (128, 128)


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['detector.safetensors', 'images/notes.txt'], 'none of 1 images and videos can be used'),
        (['images/a.jpg', 'images'], 'it is no packed model'),
        (['detector.safetensors', 'images/*.gif'], "'images/*.gif' contains no images"),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(folder, words, said):
    done = detect(folder, *words, '--out', 'other')
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith('error: ') and said in done.stderr
    assert not (folder / 'other').exists()


def test_a_class_beyond_the_allow_list_needs_its_name(folder, monkeypatch):
    name = 'mmdet.models.dense_heads.fcos_head.FCOSHead'
    listed = allowed_classes.ALLOWED - {'mmdet.models.dense_heads.FCOSHead'}
    monkeypatch.setattr(allowed_classes, 'ALLOWED', listed)
    words = ['detector.safetensors', 'images/a.jpg', '--out', 'allowed']
    alone = detect(folder, *words)
    assert alone.returncode == 1 and f'names {name}, which is not on the list' in alone.stderr
    assert detect(folder, *words, '--allow', name).returncode == 0
    wrong = detect(folder, *words, '--allow', f'{name}s')
    assert wrong.returncode == 2 and f"argument --allow: '{name}s': " in wrong.stderr


def test_pictures_replace_neither_images_nor_each_other_and_are_no_images_of_the_next_run(tmp_path):
    for name in ('a.jpg', 'sub/a.jpg', 'found/a.jpg', 'clip.avi', 'clip.mov'):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    here, sub = str(tmp_path), str(tmp_path / 'sub')
    targets = [source.target for source in find_sources([here, f'{sub}/*'], here + '/found')]
    names = [str(target.relative_to(tmp_path / 'found')) for target in targets]
    assert names == ['a.jpg', 'clip.mp4', 'clip_2.mp4', 'sub/a.jpg', 'a_2.jpg']
    (source,) = find_sources([f'{here}/a.jpg'], here)
    assert source.target == tmp_path / 'a_2.jpg'
