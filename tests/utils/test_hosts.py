"""The scope in which registries look up names."""

import multiprocessing
import threading
import time

from mmengine.registry import DefaultScope

from surge_mm.utils.hosts import default_scope


def scope():
    current = DefaultScope.get_current_instance()
    return current and current.scope_name


def test_threads_see_their_own_scope_and_leave_the_one_of_before():
    before, kept, seen = scope(), len(DefaultScope._instance_dict), []

    def work(name):
        for _ in range(5):
            with default_scope(name):
                time.sleep(0.002)  # lets the others run
                with default_scope('mmengine'):
                    pass
                seen.append(scope() == name)

    threads = [threading.Thread(target=work, args=(name,)) for name in ('mmdet', 'mmpretrain') * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 20
    assert scope() == before and len(DefaultScope._instance_dict) == kept


def enter(queue):
    with default_scope('mmdet'):
        queue.put(scope())


def test_a_forked_process_can_set_its_scope_while_a_thread_of_the_parent_has_one():
    release, holds = threading.Event(), threading.Event()

    def hold():
        with default_scope('mmpretrain'):
            holds.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    holds.wait()
    fork = multiprocessing.get_context('fork')
    queue = fork.SimpleQueue()
    child = fork.Process(target=enter, args=(queue,))
    child.start()
    child.join(30)
    alive = child.is_alive()
    child.kill()
    release.set()
    thread.join()
    assert not alive and queue.get() == 'mmdet'
