import pytest
import torch
from mmpretrain.datasets.transforms import RandomCrop
from scipy.stats import chisquare

from surge_mm import BatchAugmentPreprocessor
from surge_mm.models.data_preprocessors.batch_augment import random_crop_flip

MEAN, STD = [125.307, 122.961, 113.8575], [51.5865, 50.847, 51.255]


def every_outcome(image, padding):
    """All crops of one image, each also flipped, by plain slicing: index (top, left, flipped)."""
    channels, height, width = image.shape
    padded = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=image.dtype)
    padded[:, padding : padding + height, padding : padding + width] = image
    outcomes = {}
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            crop = padded[:, top : top + height, left : left + width]
            outcomes[top, left, False] = crop
            outcomes[top, left, True] = crop.flip(2)
    return outcomes


def test_each_image_becomes_one_of_its_crops_and_all_are_equally_probable():
    torch.manual_seed(0)
    image = torch.randint(1, 255, (3, 6, 6), dtype=torch.uint8)
    draws = random_crop_flip(image.expand(9000, 3, 6, 6), padding=1, flip_prob=0.5)
    assert draws.dtype == torch.uint8
    counts = [
        (draws == outcome).flatten(1).all(1).sum().item()
        for outcome in every_outcome(image, 1).values()
    ]
    assert len(counts) == 18
    assert sum(counts) == 9000
    assert chisquare(counts).pvalue > 0.01


def test_images_of_a_batch_are_drawn_apart_and_keep_their_places():
    torch.manual_seed(0)
    images = torch.randint(1, 255, (50, 3, 32, 32), dtype=torch.uint8)
    augmented = random_crop_flip(images, padding=4, flip_prob=0.5)
    chosen = set()
    for image, result in zip(images, augmented, strict=True):
        (outcome,) = [k for k, v in every_outcome(image, 4).items() if torch.equal(v, result)]
        chosen.add(outcome)
    assert len(chosen) > 30


def test_crops_are_those_of_mmpretrain():
    """MMPretrain's RandomCrop draws its corner from the same places, with the same border."""
    torch.manual_seed(0)
    image = torch.randint(1, 255, (3, 8, 8), dtype=torch.uint8)
    crop = RandomCrop(crop_size=8, padding=2)
    theirs = {crop({'img': image.permute(1, 2, 0).numpy()})['img'].tobytes() for _ in range(500)}
    ours = {
        outcome.permute(1, 2, 0).numpy().tobytes()
        for (_, _, flipped), outcome in every_outcome(image, 2).items()
        if not flipped
    }
    assert theirs == ours
    mine = random_crop_flip(image.expand(500, 3, 8, 8), padding=2, flip_prob=0.0)
    assert {one.permute(1, 2, 0).numpy().tobytes() for one in mine} == ours


def test_a_seed_gives_the_same_batches():
    images = torch.randint(0, 255, (16, 3, 32, 32), dtype=torch.uint8)
    batches = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        batches.append(random_crop_flip(images, 4, 0.5))
    assert torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], batches[2])


def test_evaluation_only_normalizes():
    images = torch.randint(0, 255, (4, 3, 32, 32), dtype=torch.uint8)
    out = BatchAugmentPreprocessor(MEAN, STD)({'inputs': images, 'data_samples': 'as they are'})
    expected = (images.double() - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(
        3, 1, 1
    )
    torch.testing.assert_close(out['inputs'], expected.float())
    assert out['data_samples'] == 'as they are'


@pytest.mark.parametrize(
    'options, message',
    [
        ({'padding': -1}, 'padding=-1'),
        ({'batch_augments': {'augments': 'Mixup'}}, 'ClsDataPreprocessor'),
        ({'flip_prob': 1.5}, 'flip_prob=1.5'),
        ({'std': [1, 0, 1]}, r'std=\[1, 0, 1\]'),
        ({'std': [1, 1]}, 'as long as mean'),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        BatchAugmentPreprocessor(**{'mean': MEAN, 'std': STD, **options})
