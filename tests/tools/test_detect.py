"""tools/detect.py on images, videos and a camera."""

import json
import shutil
import signal
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from helpers.tools import run_tool
from mmdet.apis import inference_detector
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmpretrain import ImageClassificationInferencer
from PIL import Image

from surge_mm.deploy import load_packed, pack, save_packed
from surge_mm.deploy.packed_file import allowed_classes
from surge_mm.deploy.predict.predictor import Predictor

ROOT = Path(__file__).parents[2]
DETECTOR = ROOT / 'configs/demo/ste_fcos-1bit_r18-light_10e_digits.py'
CLASSIFIER = ROOT / 'configs/cifar10_mini/ste_resnet20_12e_cifar10-mini.py'


def packed(config, folder, scope):
    torch.manual_seed(1)  # the names of the classes found decide the width of a table
    cfg = Config.fromfile(config)
    if scope == 'mmdet':
        cfg.model.test_cfg.score_thr = 0.0  # of an untrained head
    with DefaultScope.overwrite_default_scope(scope):
        preprocessor = (
            {'data_preprocessor': cfg.data_preprocessor} if 'data_preprocessor' in cfg else {}
        )
        model = pack(MODELS.build({**preprocessor, **cfg.model}))
    save_packed(model, folder / 'model.safetensors', cfg)


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
    whole = (folder / 'images/a.jpg').read_bytes()
    (folder / 'images/half.jpg').write_bytes(whole[: len(whole) // 2])
    (folder / 'images/gone.jpg').symlink_to('nowhere.jpg')
    (folder / 'images/._a.jpg').write_bytes(b'metadata of a file system')
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


def test_a_folder_is_drawn_and_timed_and_nothing_is_overwritten(folder, recwarn):
    words = ['detector.safetensors', 'images', '--out', 'found', '--score-thr', '0']
    done = detect(folder, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert files_in(folder / 'found') == ['a.jpg', 'b c.PNG', 'sub/a.jpg']
    assert Image.open(folder / 'found/b c.PNG').size == (140, 90)
    drawn = np.asarray(Image.open(folder / 'found/a.jpg')).astype(int)
    assert np.abs(drawn - np.asarray(Image.open(folder / 'images/a.jpg')).astype(int)).max() > 50
    assert 'skipped: images/broken.jpg: is not a readable image' in done.stdout
    assert 'skipped: images/empty.jpg: is not a readable image' in done.stdout
    assert 'skipped: images/half.jpg: is damaged or truncated' in done.stdout
    assert 'skipped: images/gone.jpg: is a link to nowhere.jpg, which is missing' in done.stdout
    reason = 'image of 1 x 3000 pixels (H x W): the test pipeline would reduce a side to less than'
    assert f'skipped: images/line.png: {reason}' in ' '.join(done.stdout.split())
    assert '3 of 8 images, 5 skipped' in done.stdout
    assert not [warning for warning in recwarn if 'out of bounds' in str(warning.message)]
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
    assert [result[key] for key in ('picture', 'labels')] == [
        'texts/b c.PNG',
        'texts/labels/b c.txt',
    ]
    names = [model.dataset_meta['classes'][label] for label in expected.labels]
    (name, number), *_ = Counter(names).most_common()
    assert f'{len(names)} boxes: {number} {name}' in done.stdout
    classes = (folder / 'texts/labels/classes.txt').read_text().splitlines()
    assert classes == list(model.dataset_meta['classes'])
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
                signal.raise_signal(signal.SIGINT)
            return True, np.full((32, 32, 3), 99, np.uint8)

        def get(self, key):
            return 0

        def release(self):
            pass

    open_video = cv2.VideoCapture
    monkeypatch.setattr(
        cv2,
        'VideoCapture',
        lambda name: open_video(name) if isinstance(name, str) else Camera(name),
    )
    words = ['detector.safetensors', '0', '1', '--out', 'camera', '--json', 'camera.json']
    done = detect(folder, *words)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0  # would end the process later
    assert done.returncode == 0, done.stdout + done.stderr
    for number in range(2):
        video = open_video(str(folder / f'camera/camera_{number}.mp4'))
        assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 2
    assert len(json.loads((folder / 'camera.json').read_text())['results']) == 4


def test_ctrl_c_ends_a_folder_and_writes_the_results_so_far(folder, monkeypatch):
    predict, calls = Predictor.predict, []

    def predict_one_image(self, image):
        calls.append(image)
        if len(calls) > 3:  # the first two are not timed
            signal.raise_signal(signal.SIGINT)
        return predict(self, image)

    monkeypatch.setattr(Predictor, 'predict', predict_one_image)
    words = ['classifier.safetensors', 'images/a.jpg', 'images/sub', '--out', 'part']
    done = detect(folder, *words, '--json', 'part.json')
    assert done.returncode == 130
    assert '1 of 2 images before Ctrl-C' in done.stdout and 'part/a.jpg' in done.stdout
    assert 'interrupted; the files written so far stay' in done.stderr
    (result,) = json.loads((folder / 'part.json').read_text())['results']
    assert result['picture'] == 'part/a.jpg' and files_in(folder / 'part') == ['a.jpg']


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['a.jpg', 'a.png'], "'a.png' and 'a.jpg' would have one label file, 'out/labels/a.txt'"),
        (['classes.jpg', 'b.jpg'], "'classes.jpg' and the names of the classes"),
        (['film_0.jpg', 'film.avi'], "'film.avi' and 'film_0.jpg'"),
    ],
)
def test_two_images_with_one_label_file_are_refused_before_the_model_runs(
    names, message, folder, tmp_path
):
    for name in names:
        if name == 'film.avi':
            shutil.copy(folder / 'clip.avi', tmp_path / name)
        else:
            Image.new('RGB', (32, 32)).save(tmp_path / name)
    words = [folder / 'classifier.safetensors', '.', '--out', 'out', '--save-txt']
    done = detect(tmp_path, *words)
    assert done.returncode == 1 and message in done.stderr
    assert '--out' in done.stderr and files_in(tmp_path) == sorted(names)


def test_images_of_one_name_in_two_folders_have_the_label_files_of_their_pictures(folder, tmp_path):
    for name in ('x', 'y'):
        (tmp_path / name).mkdir()
        Image.new('RGB', (32, 32)).save(tmp_path / name / 'a.jpg')
    words = [folder / 'classifier.safetensors', 'x', 'y', '--out', 'out', '--save-txt']
    assert detect(tmp_path, *words).returncode == 0
    labels = ['labels/a.txt', 'labels/a_2.txt', 'labels/classes.txt']
    assert files_in(tmp_path / 'out') == ['a.jpg', 'a_2.jpg', *labels]


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('images/a.jpg', 'must end in .json'),
        ('detector.safetensors', 'must end in .json'),
        ('link.json', 'is an input, and would be replaced'),
    ],
)
def test_the_json_replaces_neither_model_nor_image(folder, name, said):
    if not (folder / 'link.json').is_symlink():
        (folder / 'link.json').symlink_to('images/a.jpg')
    before = (folder / name).read_bytes()
    words = ['detector.safetensors', 'images/a.jpg', '--json', name, '--overwrite']
    done = detect(folder, *words, '--out', 'replaced')
    assert done.returncode == 1 and said in done.stderr
    assert (folder / name).read_bytes() == before


def test_an_existing_json_is_named_with_its_option_and_other_classes_are_kept(folder):
    (folder / 'before.json').write_text('{}')
    words = ['classifier.safetensors', 'images/a.jpg', '--out', 'kept', '--save-txt']
    done = detect(folder, *words, '--json', 'before.json')
    assert done.returncode == 1
    assert "--json 'before.json' exists already: name another file" in done.stderr
    (folder / 'kept/labels').mkdir(parents=True)
    (folder / 'kept/labels/classes.txt').write_text('mine\n')
    done = detect(folder, *words)
    assert done.returncode == 0 and 'classes.txt' in done.stdout
    assert (folder / 'kept/labels/classes.txt').read_text() == 'mine\n'


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
        (
            ['missing.safetensors', 'images/a.jpg'],
            "packed model 'missing.safetensors': it is missing",
        ),
        (['images/a.jpg', 'detector.safetensors'], 'The model comes first'),
        (['detector.safetensors', 'images/*.gif'], "'images/*.gif' contains no images"),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(folder, words, said):
    done = detect(folder, *words, '--out', 'other')
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith('error: ') and said in done.stderr
    assert not (folder / 'other').exists()


def test_a_class_beyond_the_allow_list_needs_its_name(folder, monkeypatch):
    name = 'mmdet.models.necks.fpn.FPN'
    listed = allowed_classes.ALLOWED - {'mmdet.models.necks.FPN'}
    monkeypatch.setattr(allowed_classes, 'ALLOWED', listed)
    words = ['detector.safetensors', 'images/a.jpg', '--out', 'allowed']
    alone = detect(folder, *words)
    assert alone.returncode == 1 and f'names {name}, which is not on the list' in alone.stderr
    assert detect(folder, *words, '--allow', name).returncode == 0
    wrong = detect(folder, *words, '--allow', f'{name}s')
    assert wrong.returncode == 2 and f"argument --allow: '{name}s': " in wrong.stderr
