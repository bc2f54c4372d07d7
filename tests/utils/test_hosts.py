"""The scope in which registries look up names."""

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
