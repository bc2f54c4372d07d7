"""The program beside an exported C file: pictures of all kinds, damaged files, wrong arguments."""

import json
import subprocess

import cv2
import numpy as np
import pytest
from helpers.c_code import COMPILER

from surge_mm.deploy.c.assemble import filled, source

pytestmark = pytest.mark.skipif(COMPILER is None, reason='no C compiler')

# a detector whose only box has the sums of the colors of a picture
STUB = """
#define STUB_MEMORY 64
#define STUB_CLASSES 1
#define STUB_BOXES 9
#define STUB_ERROR_SIZE -2
typedef struct { int used; } stub_context;
typedef struct { float x1, y1, x2, y2, score; int label; } stub_box;
static const char *const stub_classes[2] = {"a \\"cell\\"", 0};
static int stub_init(stub_context *context, void *memory, unsigned long bytes)
{
    context->used = 0;
    return memory && bytes >= STUB_MEMORY ? 0 : -1;
}
static int stub_detect(stub_context *context, const unsigned char *rgb, int width, int height, int stride,
                       stub_box *boxes, int max)
{
    float sums[3] = {0, 0, 0};
    if (width > 300 || max < 2) return STUB_ERROR_SIZE;
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
            for (int c = 0; c < 3; ++c) sums[c] += rgb[y * stride + 3 * x + c] * (1 + y % 7) * (1 + x % 5);
    boxes[0].x1 = sums[0];
    boxes[0].y1 = sums[1];
    boxes[0].x2 = sums[2];
    boxes[0].y2 = 0.1f;
    boxes[0].score = 0.75f;
    boxes[0].label = 0;
    boxes[1] = boxes[0];
    boxes[1].score = 0.25f;
    boxes[1].label = context->used++ ? 1 : 2;
    return 2;
}
"""


@pytest.fixture(scope='module')
def program(tmp_path_factory):
    folder = tmp_path_factory.mktemp('main')
    (folder / 'stub.h').write_text(STUB)
    text = filled(source('main.c'), {'name': 'stub', 'NAME': 'STUB'})
    (folder / 'main.c').write_text(text)
    flags = (
        '-std=c99 -Wall -Wextra -Werror -O1 -g -fsanitize=address,undefined -fno-sanitize-recover'
    )
    command = [COMPILER, *flags.split(), str(folder / 'main.c'), '-o', str(folder / 'stub')]
    subprocess.run(command, check=True)
    return str(folder / 'stub')


def run(program, *arguments, **kwargs):
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, timeout=60, **kwargs
    )
    assert done.returncode in (0, 1, 2), done.stderr.decode()  # 1 of a sanitizer has its report
    assert b'Sanitizer' not in done.stderr and b'runtime error' not in done.stderr, done.stderr
    return done


def picture(width, height, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def sums(bgr):
    y, x = np.indices(bgr.shape[:2])
    return (bgr[..., ::-1] * ((1 + y % 7) * (1 + x % 5))[..., None]).sum((0, 1)).tolist()


def written(folder):
    """Return files of the same pictures in all forms, and their pixels."""
    files = {}
    for width, height in ((1, 1), (5, 4), (7, 3), (64, 33)):
        pixels = picture(width, height)
        alpha = np.dstack([pixels, np.full((height, width), 9, np.uint8)])
        for name, content in (('a.ppm', pixels), ('b.bmp', pixels), ('c.bmp', alpha)):
            path = folder / f'{width}x{height}{name}'
            assert cv2.imwrite(str(path), content)
            files[path] = pixels
        upside = bytearray((folder / f'{width}x{height}b.bmp').read_bytes())
        upside[22:26] = (-height).to_bytes(4, 'little', signed=True)
        path = folder / f'{width}x{height}d.bmp'
        path.write_bytes(upside)
        files[path] = pixels[::-1]
        path = folder / f'{width}x{height}"e".ppm'
        rgb = np.ascontiguousarray(pixels[..., ::-1]).tobytes()
        end = ('\n', '# comment\n')[width > 6]
        path.write_bytes(f'P6 # comment\n#\n {width}\t{height}\n255{end}'.encode() + rgb)
        files[path] = pixels
    return files


def test_pictures_of_each_kind_are_read_as_opencv_reads_them(program, tmp_path):
    files = written(tmp_path)
    done = run(program, *files)
    lines = done.stdout.decode().splitlines()
    assert done.returncode == 0 and len(lines) == len(files)
    for line, (path, pixels) in zip(lines, files.items(), strict=True):
        found = json.loads(line)
        assert found['image'] == str(path)
        assert (found['height'], found['width']) == pixels.shape[:2]
        (box,) = found['found']  # the other one has a low score
        assert box['bbox'][:3] == sums(pixels)
        assert np.float32(box['bbox'][3]) == np.float32(0.1)
        assert (box['class'], box['label'], box['score']) == ('a "cell"', 0, 0.75)


def test_options_and_the_standard_input(program, tmp_path):
    (path, *_), _ = written(tmp_path), None
    done = run(program, '--score-thr', '0.1', '--repeat', '3', '-', stdin=path.open())
    (line,) = done.stdout.decode().splitlines()
    assert [box['class'] for box in json.loads(line)['found']] == ['a "cell"', '1']
    wrong_ones = ((), ('--score-thr', '2', path), ('--repeat', 'x', path), ('--other', '1', path))
    for wrong in (*wrong_ones, ('--threads', '2', path)):  # compiled without threads
        done = run(program, *wrong)
        assert done.returncode == 2 and b'usage: ' in done.stderr and not done.stdout


def test_damaged_files_are_named_and_the_others_are_used(program, tmp_path):
    good, *_ = written(tmp_path)
    bad = {
        'missing.ppm': None,
        'empty.ppm': b'',
        'short.ppm': b'P6 4 4 255 \0\0\0',
        'sixteen.ppm': b'P6 1 1 65535 \0\0\0\0\0\0',
        'head.ppm': b'P6 1 1 255x\0\0\0',
        'comment.ppm': b'P6 1 1 255#\0\0\0',
        'huge.ppm': b'P6 99999999999999999999 1 255 \0\0\0',
        'text.png': b'no picture',
        'short.bmp': b'BM' + bytes(60),
        'wide.ppm': b'P6 301 1 255 ' + bytes(903),
    }
    for name, content in bad.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
    done = run(program, *(tmp_path / name for name in bad), tmp_path, good)
    messages = done.stderr.decode().splitlines()
    assert done.returncode == 1 and len(messages) == len(bad) + 1
    for name, message in zip(bad, messages, strict=False):
        assert message.startswith(f'{tmp_path / name}: ')
    assert 'does not fit the network' in messages[len(bad) - 1]
    assert len(done.stdout.splitlines()) == 1


def test_no_change_of_a_file_lets_the_program_read_outside_of_it(program, tmp_path):
    rng = np.random.default_rng(0)
    whole = [path.read_bytes() for path in written(tmp_path)]
    files = []
    for number in range(600):
        content = bytearray(whole[number % len(whole)])
        for _ in range(rng.integers(1, 5)):  # mostly in the head
            content[rng.integers(min(len(content), 60))] = rng.choice(
                [0, 1, 32, 57, 127, 128, 255, rng.integers(256)]
            )
        if rng.random() < 0.4:
            del content[rng.integers(len(content)) :]
        files.append(tmp_path / f'{number}.bin')
        files[-1].write_bytes(content)
    done = run(program, *files)
    used = len(done.stdout.splitlines())
    assert 0 < used < len(files)
    assert used + len(done.stderr.splitlines()) == len(files)
