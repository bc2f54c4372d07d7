"""Exported C files that compute by several threads."""

import ctypes
import subprocess

import pytest
import torch
from helpers.c_code import COMPILER, SOURCES, guarded, pointer
from helpers.c_network import Network
from torch import nn

from surge_mm import SurgeConv2d
from surge_mm.deploy import pack
from surge_mm.deploy.c.assemble import TEAM
from surge_mm.deploy.c.compile import THREADS
from surge_mm.deploy.c.export import export_c

pytestmark = pytest.mark.skipif(COMPILER is None, reason='no C compiler')
LARGEST = (64, 64)
MOST = 64
NULL, MEMORY, REFUSED = -1, -4, -6


def packed():
    """Return a network whose operations are large enough to be divided, by rows or by channels."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 64, 5, 2, padding=2), nn.BatchNorm2d(64), nn.MaxPool2d(2)]
    layers += [SurgeConv2d(64, 128, 3, padding=1), nn.BatchNorm2d(128), nn.PReLU()]
    layers += [SurgeConv2d(128, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)]
    return pack(nn.Sequential(*layers).eval())


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    return Network(tmp_path_factory.mktemp('net'), packed(), LARGEST, THREADS)


class Context:
    """A context with threads, whose memory is guarded.

    Args:
        network (Network): Its network.
        threads (int): Number of threads.
    """

    def __init__(self, network, threads):
        self.network, self.library = network, network.library
        self.context = ctypes.create_string_buffer(64)
        size = network.made.memory
        self.memory, self.check_memory = guarded(size)
        address = pointer(self.memory)
        assert self.library.net_init(self.context, address, ctypes.c_size_t(size)) == 0
        self.code = self.start(threads)

    def start(self, threads, missing=0):
        size = TEAM + (threads - 1) * self.network.made.workspace
        self.of_threads, self.check_threads = guarded(size)
        size = ctypes.c_size_t(size - missing)
        return self.library.net_start_threads(self.context, threads, pointer(self.of_threads), size)

    def maps(self, image):
        self.network.context = self.context
        return self.network(image, 1)[0].numpy().tobytes()

    def close(self):
        self.library.net_stop_threads(self.context)
        self.check_memory()
        self.check_threads()


def test_threads_give_the_bits_of_one_for_images_of_any_size(network):
    contexts = [Context(network, threads) for threads in (1, 2, 3, MOST)]
    assert [context.code for context in contexts] == [0] * 4
    for size in (LARGEST, (64, 40), (45, 64)):
        image = torch.randn(1, 3, *size)
        one, *others = (context.maps(image) for context in contexts)
        assert others == [one] * 3
    for context in contexts:
        context.close()


def test_a_context_whose_threads_ended_computes_alone_and_starts_others(network):
    context, image = Context(network, 2), torch.randn(1, 3, *LARGEST)
    expected = context.maps(image)
    context.close()
    context.close()
    assert context.maps(image) == expected
    first = context.of_threads
    assert context.start(3) == 0
    assert context.start(2) == 0  # ends those before
    first[:] = 0
    assert context.maps(image) == expected
    context.close()


def test_wrong_numbers_of_threads_and_short_memory_return_errors(network):
    context = Context(network, 1)
    start, memory = context.library.net_start_threads, pointer(context.of_threads)
    size = ctypes.c_size_t(1 << 40)
    wrong = [start(context.context, threads, memory, size) for threads in (0, -1, MOST + 1)]
    assert wrong == [REFUSED] * 3
    assert start(None, 2, memory, size) == start(context.context, 2, None, size) == NULL
    assert start(ctypes.create_string_buffer(64), 2, memory, size) == NULL
    assert context.start(2, missing=1) == MEMORY
    context.library.net_stop_threads(None)
    context.close()


PROGRAM = """
#include "net.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
enum { SIDE = 64, RUNS = 5, CONTEXTS = 2, THREADS = 3 };
static float image[SIDE * SIDE * 3];

static void *run(void *out)
{
    const size_t size = NET_THREADS_MEMORY(THREADS);
    net_context context;
    net_map map;
    void *memory = malloc(NET_MEMORY), *of_threads = malloc(size);
    if (net_init(&context, memory, NET_MEMORY)) exit(3);
    if (net_start_threads(&context, out ? THREADS : 1, of_threads, size)) exit(4);
    for (int i = 0; i < RUNS; i++)
        if (net_forward(&context, image, SIDE, SIDE - 8 * i, &map)) exit(5);
    net_stop_threads(&context);
    free(of_threads);
    void *bytes = malloc(4ul * map.height * map.width * map.channels + 8);
    *(size_t *)bytes = 4ul * map.height * map.width * map.channels;
    memcpy((char *)bytes + 8, map.values, *(size_t *)bytes);
    free(memory);
    if (out) *(void **)out = bytes;
    return bytes;
}

int main(void)
{
    pthread_t ids[CONTEXTS];
    void *expected, *found[CONTEXTS];
    for (int i = 0; i < SIDE * SIDE * 3; i++) image[i] = (float)(i * 7919 % 1000) / 500 - 1;
    for (int i = 0; i < CONTEXTS; i++)
        if (pthread_create(&ids[i], NULL, run, &found[i])) exit(6);
    for (int i = 0; i < CONTEXTS; i++) pthread_join(ids[i], NULL);
    expected = run(NULL);
    for (int i = 0; i < CONTEXTS; i++) {
        if (memcmp(found[i], expected, *(size_t *)expected + 8)) exit(7);
        free(found[i]);
    }
    free(expected);
    return 0;
}
"""


@pytest.mark.parametrize('sanitizer', ['thread', 'address,undefined'])
def test_sanitizers_find_nothing_in_contexts_at_once(tmp_path, sanitizer):
    flags = [f'-fsanitize={sanitizer}', '-fno-sanitize-recover', '-g', '-O1', *THREADS]
    (tmp_path / 'empty.c').write_text('int main(void) { return 0; }')
    empty = [COMPILER, *flags, str(tmp_path / 'empty.c'), '-o', str(tmp_path / 'empty')]
    if subprocess.run(empty).returncode or subprocess.run([tmp_path / 'empty']).returncode:
        pytest.skip('the sanitizer does not run here')
    export_c(packed(), tmp_path / 'net.c', LARGEST)
    (tmp_path / 'main.c').write_text(PROGRAM)
    sources = str(tmp_path / 'net.c'), str(tmp_path / 'main.c')
    subprocess.run([COMPILER, *flags, *sources, '-o', tmp_path / 'program', '-lm'], check=True)
    subprocess.run([tmp_path / 'program'], check=True, timeout=100)


@pytest.mark.parametrize('system', ['-D_WIN32', '-D__wasm__', '-ffreestanding'])
def test_systems_without_threads_are_named(tmp_path, system):
    code = tmp_path / 'code.c'
    code.write_text('\n'.join((SOURCES / name).read_text() for name in ('layers.h', 'threads.c')))
    command = [COMPILER, '-fsyntax-only', system, *THREADS, str(code)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode and 'SURGE_THREADS needs POSIX threads' in done.stderr
