"""Messages reach MMEngine's logger, or Python's where MMEngine is absent."""

import logging
import sys
from unittest.mock import patch

from mmengine.logging import MMLogger

from surge_mm.utils.logging import log


def test_messages_go_to_the_current_logger_of_mmengine():
    with patch.object(MMLogger.get_current_instance(), 'log') as record:
        log('a message', logging.WARNING)
    record.assert_called_once_with(logging.WARNING, 'a message')


def test_messages_go_to_a_logger_of_python_without_mmengine(monkeypatch, caplog):
    monkeypatch.delitem(sys.modules, 'mmengine')
    with caplog.at_level(logging.INFO, 'surge_mm'):
        log('a message')
    assert caplog.record_tuples == [('surge_mm', logging.INFO, 'a message')]
