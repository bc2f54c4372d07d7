"""Bad data, COCO and VOC.

A small valid set is damaged in one way at a time, with variants by seed, in its train or its val split. Then it is
checked as `tools/check_data.py` does, with the pipelines of `configs/_base_` (in some cases with the crops of SSD), and
trained on. Asserted case by case:

- **Refused** before the first step, in sentences that name the file: images that are missing, truncated, no image, or
  that the decoder of training does not decode; links are followed, and pipes and devices are not opened; annotations
  that are no JSON or XML, lack a key, or have null, text, NaN or infinity in place of a number; COCO's duplicate ids,
  ids of two kinds, and annotations that all refer to nothing; an empty set; missing masks and run lengths that do not
  fill their size, if the pipeline loads masks.
- **Counted**, named in the log and trained through: boxes of zero or negative size, boxes outside of their image, VOC's
  names outside the class list, COCO's references to nothing, images of another size than annotated. Where MMDetection
  would train on boxes without area, the message has the step to add to the pipeline, and the test adds it.
- **Trained through** without a message: boxes that are partly inside (clipped), unicode, spaces and signs in names,
  links and paths out of the folder, gray, CMYK, 16-bit and transparent images, XML of other encodings.

`tools/train.py` and `tools/test.py` check all of this but the content and size of images at each start. An image that
cannot be loaded in training ends it with an error that names the file.

"Trained through" means: every image of the train split was a training step of a very small RetinaNet with a finite
loss, its weights were finite, and the evaluation on the val split ended. A case that passes the check and then fails,
or that is harmless and refused, fails the test. Wrong bytes at random places may end either way.
"""

from collections import Counter

import pytest
from helpers.bad_data import COUNTED, HARMLESS, REFUSED, make_good
from helpers.bad_data.cases import CASES, name_of, try_case

SEEDS = range(1000, 1024)
WORDS = {REFUSED: 'refused', COUNTED: 'counted and trained through', HARMLESS: 'trained through'}


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    return make_good(tmp_path_factory.mktemp('good') / 'set')


@pytest.mark.parametrize(('damage', 'layout'), CASES, ids=name_of)
def test_damaged_data_is_refused_by_name_or_trained_through(good, tmp_path, record, damage, layout):
    fates = Counter(
        try_case(damage, layout, seed, good, tmp_path / str(seed) / 'set') for seed in SEEDS
    )
    record(
        f'{damage.__name__.replace("_", " ")}, {layout.upper()}',
        fates.total(),
        ', '.join(f'{fates[fate]} {words}' for fate, words in WORDS.items() if fates[fate]),
    )
