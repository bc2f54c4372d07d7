import json

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from surge_mm.analysis.plots import Boxes, draw_detections, match, plot_training, save
from surge_mm.utils.errors import WriteError

NAMES = ('cat', 'dog')


def boxes(*rows, scores=None) -> Boxes:
    """Boxes from rows of x1, y1, x2, y2, label."""
    table = np.array(rows, dtype=float).reshape(-1, 5)
    return Boxes(
        table[:, :4], table[:, 4].astype(int), None if scores is None else np.array(scores)
    )


GREEN, BLUE, VERMILION = (0, 158, 115), (0, 114, 178), (213, 94, 0)


def colors_drawn(path) -> set[str]:
    """Return the colors of the panels. The legend at the foot has them all and is left out."""
    image = np.asarray(Image.open(path).convert('RGB')).astype(int)
    pixels = image[: int(0.85 * len(image))]
    named = {'green': GREEN, 'blue': BLUE, 'vermilion': VERMILION}
    return {n for n, rgb in named.items() if (np.abs(pixels - rgb).max(axis=-1) <= 3).any()}


def draw(tmp_path, truth, predicted):
    image = np.full((64, 64, 3), 90, dtype=np.uint8)
    found = {'binary': [predicted]}
    return draw_detections([image], [truth], found, NAMES, tmp_path / 'new/d.png')


def test_right_and_wrong_predictions_have_different_colors(tmp_path):
    truth = boxes((5, 20, 30, 45, 0))
    assert colors_drawn(draw(tmp_path, truth, boxes(scores=[]))) == {'green'}
    right = boxes((6, 20, 30, 45, 0), scores=[0.9])
    assert colors_drawn(draw(tmp_path, truth, right)) == {'green', 'blue'}
    wrong = boxes((6, 20, 30, 45, 1), scores=[0.9])
    assert colors_drawn(draw(tmp_path, truth, wrong)) == {'green', 'vermilion'}


def test_predictions_with_a_low_score_are_not_drawn(tmp_path):
    truth = boxes((5, 20, 30, 45, 0))
    for score, colors in ((0.31, {'green', 'vermilion'}), (0.29, {'green'})):
        wrong = boxes((35, 20, 60, 50, 1), scores=[score])
        assert colors_drawn(draw(tmp_path, truth, wrong)) == colors


def test_many_images_of_several_shapes_make_one_figure(tmp_path):
    images = [np.zeros((40 + 10 * n, 60, 3), dtype=np.uint8) for n in range(5)]
    empty = [boxes(scores=[])] * 5
    widths = []
    for found in ({'one': empty}, {'one': empty, 'other': empty}):
        path = draw_detections(images, empty, found, NAMES, tmp_path / 'd.png')
        width, height = Image.open(path).size
        assert width > 1000 and height > 600
        widths.append(width)
    assert widths[1] == pytest.approx(1.5 * widths[0], rel=0.01)


@pytest.mark.parametrize('counts', [(2, 1, 2), (2, 2, 1)])
def test_unequal_numbers_of_images_and_boxes_are_rejected(tmp_path, counts):
    images = [np.zeros((8, 8, 3), dtype=np.uint8)] * counts[0]
    with pytest.raises(ValueError, match='is shorter than'):
        found = {'one': [boxes(scores=[])] * counts[2]}
        draw_detections(images, [boxes()] * counts[1], found, NAMES, tmp_path / 'd.png')


def test_match_gives_each_object_to_the_best_scored_hit_of_its_class():
    truth = boxes((0, 0, 10, 10, 0), (20, 0, 30, 10, 1))
    predicted = boxes(
        (0, 0, 10, 10, 0),  # a second hit of the first object, of lower score
        (1, 0, 10, 10, 0),
        (20, 0, 30, 10, 0),  # the wrong class
        (20, 0, 30, 4, 1),  # IoU 0.4
        (20, 0, 30, 5, 1),  # IoU 0.5
        scores=[0.5, 0.9, 0.8, 0.7, 0.6],
    )
    assert match(predicted, truth).tolist() == [False, True, False, False, True]
    assert match(predicted, boxes()).tolist() == [False] * 5


def train_line(step, **rest) -> dict:
    return {
        'loss': 3.0 / step,
        'loss_cls': 1.0 / step,
        'step': step,
        'epoch': 1 + step // 10,
        **rest,
    }


def write_log(path, lines, end=''):
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines) + end)
    return path


AGS = {
    'ags_lambda_mean': 0.1,
    'ags_lambda_min': 0.05,
    'ags_lambda_max': 0.2,
    'ags_cos_mean': 0.3,
    'ags_clipped_share': 0.2,
}
MAP = {'coco/bbox_mAP': 0.5, 'coco/bbox_mAP_50': 0.8, 'step': 1}


@pytest.mark.parametrize(
    ('lines', 'panels'),
    [
        ([train_line(5), train_line(10)], 1),
        ([train_line(5), MAP], 2),
        ([train_line(5), {'pascal_voc/mAP': 0.4, 'pascal_voc/AP50': 0.4, 'step': 1}], 2),
        ([train_line(5), {'accuracy/top1': 91.0, 'step': 1}], 2),
        ([train_line(5, **AGS), train_line(10, **AGS), MAP], 4),
        ([train_line(5, ags_lambda_mean=0.1)], 2),
        ([MAP], 1),
        ([train_line(5), {**train_line(10), 'loss': float('nan')}], 1),
    ],
)
def test_the_training_plot_has_a_panel_for_each_quantity_in_the_log(tmp_path, lines, panels):
    path = plot_training(write_log(tmp_path / 'scalars.json', lines), tmp_path / 'new/curves.png')
    width, height = Image.open(path).size
    assert (width, height) == (panels * 600, 510)


def curves_of(monkeypatch, log, out):
    """Return the lines of the first panel, as drawn."""
    figures = []
    monkeypatch.setattr('surge_mm.analysis.plots.save', lambda figure, out: figures.append(figure))
    plot_training(log, out)
    return {
        line.get_label().partition(':')[0]: line.get_xydata().tolist()
        for line in figures[0].axes[0].lines
    }


def test_a_resumed_run_is_drawn_from_all_its_logs(tmp_path, monkeypatch):
    first = write_log(tmp_path / 'a.json', [train_line(5), train_line(10), train_line(15)])
    second = write_log(tmp_path / 'b.json', [{**train_line(10), 'loss': 7.0}, train_line(20)])
    curves = curves_of(monkeypatch, [first, second], tmp_path / 'c.png')
    assert curves['loss'] == [[5, 0.6], [10, 7.0], [15, 0.2], [20, 0.15]]


def test_half_a_last_line_is_skipped_and_other_broken_lines_are_named(tmp_path, monkeypatch):
    log = write_log(tmp_path / 'a.json', [train_line(5)], end='{"loss": 1.')
    assert curves_of(monkeypatch, log, tmp_path / 'c.png')['loss'] == [[5, 0.6]]
    log.write_text('nonsense\n' + log.read_text())
    with pytest.raises(ValueError, match=r'a\.json, line 1 is not JSON'):
        plot_training(log, tmp_path / 'c.png')


def test_a_picture_that_cannot_be_written_is_an_error_of_writing(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(WriteError, match='file/curves.png'):
        save(Figure(), tmp_path / 'file' / 'curves.png')


def test_a_log_with_nothing_to_draw_is_rejected(tmp_path):
    with pytest.raises(ValueError, match=r'nothing to draw in .*a\.json'):
        plot_training(write_log(tmp_path / 'a.json', []), tmp_path / 'c.png')


def test_drawing_leaves_matplotlibs_settings_as_they_are(tmp_path):
    before = dict(matplotlib.rcParams)
    plot_training(write_log(tmp_path / 'a.json', [train_line(5, **AGS), MAP]), tmp_path / 'c.png')
    draw(tmp_path, boxes(), boxes(scores=[]))
    assert dict(matplotlib.rcParams) == before
