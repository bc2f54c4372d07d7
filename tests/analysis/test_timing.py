"""Interleaved timing, and the load of other programs from figures with known answers."""

import os
import subprocess
import sys
import time

import pytest

from surge_mm.analysis import timing
from surge_mm.analysis.timing import BackgroundLoad, interleaved_times, median_ratio

HZ = os.sysconf('SC_CLK_TCK')


def test_steps_take_turns_and_those_of_the_warmup_are_not_counted():
    order = []
    steps = {name: lambda name=name: order.append(name) for name in 'ab'}
    times = interleaved_times(steps, rounds=3, warmup=1, synchronize=lambda: order.append('.'))
    assert ''.join(order) == 'a.b.' * 4
    assert {name: len(values) for name, values in times.items()} == {'a': 3, 'b': 3}


def test_another_clock_measures():
    ticks = iter(range(100))
    times = interleaved_times({'a': int, 'b': int}, 2, 1, clock=lambda: float(next(ticks)))
    assert times == {'a': [1.0, 1.0], 'b': [1.0, 1.0]}


def test_ratio_is_that_of_the_medians():
    assert median_ratio({'a': [1.0, 3.0, 100.0], 'b': [2.0, 1.5, 0.1]}, 'a', 'b') == 2


@pytest.fixture
def set_clocks(monkeypatch, tmp_path):
    """Set the busy and idle seconds of all CPUs, of this process, of its children and of the clock."""
    monkeypatch.setattr(timing, 'STAT', tmp_path / 'stat')

    def set_to(busy, idle, own, children, clock):
        ticks = [int(seconds * HZ) for seconds in (busy - 3, 1, 1, idle, idle, 0.5, 0.5, 0, 7, 7)]
        (tmp_path / 'stat').write_text('cpu  ' + ' '.join(map(str, ticks)) + '\ncpu0 1 2 3\n')
        monkeypatch.setattr(os, 'times', lambda: (own, 0.0, children, 0.0, clock))
        monkeypatch.setattr(time, 'perf_counter', lambda: clock)

    return set_to


def test_own_work_work_of_children_and_idle_time_are_not_load(set_clocks):
    set_clocks(busy=10, idle=100, own=2, children=0, clock=50)
    load = BackgroundLoad()
    set_clocks(busy=36, idle=900, own=9, children=4, clock=60)
    assert load.cpus() == pytest.approx((26 - 7 - 4) / 10)


def test_rounding_of_ticks_makes_no_negative_number(set_clocks):
    set_clocks(busy=10, idle=100, own=2, children=0, clock=50)
    load = BackgroundLoad()
    set_clocks(busy=11, idle=100, own=3.2, children=0, clock=51)
    assert load.cpus() == 0


def test_a_load_that_leaves_no_cpu_for_each_thread_is_reported(set_clocks, monkeypatch):
    monkeypatch.setattr(os, 'cpu_count', lambda: 4)
    set_clocks(busy=10, idle=100, own=2, children=0, clock=50)
    load = BackgroundLoad()
    set_clocks(busy=30, idle=100, own=2, children=0, clock=60)
    assert load.warning(threads=2) == ''
    assert 'used 2.0 of 4 CPUs' in load.warning(threads=3)


@pytest.mark.skipif(not timing.STAT.is_file(), reason='there is no /proc/stat')
def test_a_program_beside_this_one_is_seen():
    burn = 'import time\nwhile time.process_time() < 0.6: pass\nprint("done", flush=True); input()'
    load, began = BackgroundLoad(), time.perf_counter()
    with subprocess.Popen(
        [sys.executable, '-c', burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        busy = load.cpus() * (time.perf_counter() - began)
        other.communicate(b'\n')
    assert busy > 0.4
