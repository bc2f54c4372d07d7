"""How many CPUs other programs use, from figures of which the answer is known."""

import os
import subprocess
import sys
import time

import pytest

from surge_mm.analysis import machine
from surge_mm.analysis.machine import Others

HZ = os.sysconf('SC_CLK_TCK')


@pytest.fixture
def world(monkeypatch, tmp_path):
    """Sets the seconds of all CPUs, of this program, its children, and of the clock."""
    monkeypatch.setattr(machine, 'STAT', tmp_path / 'stat')

    def set_to(busy, idle, own, children, clock):
        ticks = [int(seconds * HZ) for seconds in (busy - 3, 1, 1, idle, idle, 0.5, 0.5, 0, 7, 7)]
        (tmp_path / 'stat').write_text('cpu  ' + ' '.join(map(str, ticks)) + '\ncpu0 1 2 3\n')
        monkeypatch.setattr(os, 'times', lambda: (own, 0.0, children, 0.0, clock))
        monkeypatch.setattr(time, 'perf_counter', lambda: clock)

    return set_to


def test_own_work_that_of_children_and_idle_time_are_not_of_others(world):
    world(busy=10, idle=100, own=2, children=0, clock=50)
    others = Others()
    world(busy=36, idle=900, own=9, children=4, clock=60)
    assert others.cpus() == pytest.approx((26 - 7 - 4) / 10)


def test_rounding_of_ticks_makes_no_negative_number(world):
    world(busy=10, idle=100, own=2, children=0, clock=50)
    others = Others()
    world(busy=11, idle=100, own=3.2, children=0, clock=51)
    assert others.cpus() == 0


@pytest.mark.skipif(not machine.STAT.is_file(), reason='there is no /proc/stat')
def test_a_program_beside_this_one_is_seen():
    burn = 'import time\nwhile time.process_time() < 0.6: pass\nprint("done", flush=True); input()'
    others, began = Others(), time.perf_counter()
    with subprocess.Popen(
        [sys.executable, '-c', burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        other.stdout.readline()
        busy = others.cpus() * (time.perf_counter() - began)
        other.communicate(b'\n')
    assert busy > 0.4
