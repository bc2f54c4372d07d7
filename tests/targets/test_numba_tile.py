"""The tile of the packed layers of Python, compiled for 64-bit ARM and run by QEMU, against popcounts in plain C."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MAIN = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { PIXELS = 2, FILTERS = 16, MOST = 200 };
void tile(int64_t offsets, int64_t borders, int64_t places, int64_t shortcut, int64_t out, int64_t words, int64_t steps,
          int64_t n_steps, int64_t w, int64_t base, int64_t table, int64_t width, int64_t shift, int64_t activated,
          int64_t stride, int64_t signs, int64_t thresholds, int64_t channels);

static uint64_t state = 1;
static uint32_t word(int kind) /* of random bits, of ones, of zeros */
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return kind == 1 ? ~0u : kind == 2 ? 0 : (state ^ state >> 29) >> 32;
}

int main(void)
{
    static uint32_t x[MOST], w[MOST * FILTERS];
    static int64_t offsets[PIXELS] = {0, 7}, borders[PIXELS], places[PIXELS] = {0, 2}, steps[MOST];
    static int32_t base[FILTERS];
    static float table[9 * FILTERS], shift[FILTERS], out[PIXELS * FILTERS];
    static uint16_t signs[PIXELS];
    int compared = 0;
    for (int f = 0; f < FILTERS; ++f) table[f] = table[2 * FILTERS + f] = 1; /* m1, m2 */
    for (int n = 1; n < 100; n += n < 34 ? 1 : 17)
        for (int kind = 0; kind < 3; ++kind) {
            int expected[PIXELS][FILTERS] = {{0}};
            for (int i = 0; i < MOST; ++i) {
                steps[i] = i;
                x[i] = word(0);
            }
            for (int i = 0; i < n; ++i) /* all bits of the first pixel differ, or none */
                for (int f = 0; f < FILTERS; ++f) w[i * FILTERS + f] = kind ? x[i] ^ word(kind) : word(0);
            for (int f = 0; f < FILTERS; ++f) base[f] = 32 * n - f;
            for (int p = 0; p < PIXELS; ++p)
                for (int f = 0; f < FILTERS; ++f)
                    for (int i = 0; i < n; ++i)
                        expected[p][f] += __builtin_popcount(x[offsets[p] + i] ^ w[i * FILTERS + f]);
            tile((int64_t)offsets, (int64_t)borders, (int64_t)places, 0, (int64_t)out, (int64_t)x, (int64_t)steps, n,
                 (int64_t)w, (int64_t)base, (int64_t)table, FILTERS, (int64_t)shift, 0, 4 * FILTERS, (int64_t)signs, 0,
                 FILTERS);
            for (int p = 0; p < PIXELS; ++p)
                for (int f = 0; f < FILTERS; ++f, ++compared) {
                    const int sum = base[f] - 2 * expected[p][f];
                    if (out[p * FILTERS + f] != (float)sum || (signs[p] >> f & 1) != (sum < 0)) {
                        printf("n %d kind %d: %g, not %d\n", n, kind, out[p * FILTERS + f], sum);
                        return 1;
                    }
                }
        }
    printf("%d sums\n", compared);
    return 0;
}
"""


@pytest.mark.skipif(not shutil.which('qemu-aarch64-static'), reason='no qemu-aarch64-static')
@pytest.mark.parametrize('cpu', ['generic', 'cortex-a53', 'cortex-a76'])
def test_sums_of_a_tile_for_arm_are_right_and_counted_in_bytes(cpu, tmp_path):
    pytest.importorskip('ziglang')
    tests = str(Path(__file__).parents[1])
    path = os.pathsep.join([tests, str(Path(tests).parent)])
    environment = {**os.environ, 'NUMBA_CPU_FEATURES': '+neon', 'PYTHONPATH': path}
    command = [sys.executable, '-m', 'helpers.arm_tiles', str(tmp_path), cpu]
    subprocess.run(command, check=True, env=environment)
    (tmp_path / 'main.c').write_text(MAIN)
    program = str(tmp_path / 'main')
    files = [str(tmp_path / 'main.c'), str(tmp_path / 'tile.o')]
    zig = [sys.executable, '-m', 'ziglang', 'cc', '-target', 'aarch64-linux-musl', '-O1']
    subprocess.run([*zig, *files, '-o', program], check=True)
    done = subprocess.run(['qemu-aarch64-static', program], capture_output=True, text=True)
    assert done.returncode == 0 and int(done.stdout.split()[0]) > 3000, done.stdout
    # a popcount and an addition of bytes for each vector of two pixels and 16 filters
    text = (tmp_path / 'tile.s').read_text()
    (loop,) = (part for part in re.split(r'\n\.LBB\w+:', text) if '\tcnt\t' in part)
    loop = loop[: loop.index('\tb.')]
    assert len(re.findall(r'\tcnt\t', loop)) == len(re.findall(r'\tadd\tv.*16b', loop)) == 8
