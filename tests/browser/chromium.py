"""Chromium without a window, driven through a pipe by its DevTools protocol."""

import json
import os
import shutil
import subprocess
import time

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser')
FLAGS = (
    '--headless=new',
    '--no-sandbox',
    '--disable-gpu',
    '--remote-debugging-pipe',
    '--use-fake-ui-for-media-stream',
    '--use-fake-device-for-media-stream',
)


class Chromium:
    """A browser with one page.

    Args:
        folder (Path): folder of its profile.
        address (str): what the page shows.
        video (Path): what its camera sees, ``*.mjpeg``.
    """

    def __init__(self, folder, address, video):
        to_read, self.to_write = os.pipe()
        self.to_read, to_write = os.pipe()
        program = [
            CHROMIUM,
            *FLAGS,
            f'--user-data-dir={folder}',
            f'--use-file-for-fake-video-capture={video}',
        ]
        shell = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self.process = subprocess.Popen(
            ['bash', '-c', shell, 'bash', *program, address],
            pass_fds=(to_read, to_write),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self.rest, self.number = b'', 0
        self.session = None
        pages = self.until(
            lambda: [
                t for t in self.call('Target.getTargets')['targetInfos'] if t['type'] == 'page'
            ]
        )
        session = self.call('Target.attachToTarget', targetId=pages[0]['targetId'], flatten=True)
        self.session = session['sessionId']

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.session = None
        self.call('Browser.close')
        self.process.wait(30)

    def call(self, method, **parameters):
        """Return the result of a method of the protocol."""
        self.number += 1
        message = {'id': self.number, 'method': method, 'params': parameters}
        if self.session:
            message['sessionId'] = self.session
        data = json.dumps(message).encode() + b'\0'
        while data:
            data = data[os.write(self.to_write, data) :]
        while True:
            while b'\0' not in self.rest:
                read = os.read(self.to_read, 1 << 16)
                assert read, 'the browser has ended'
                self.rest += read
            line, _, self.rest = self.rest.partition(b'\0')
            answer = json.loads(line)
            if answer.get('id') == self.number:
                assert 'error' not in answer, answer
                return answer['result']

    def evaluate(self, code):
        """Return the value of an expression in the page."""
        found = self.call(
            'Runtime.evaluate', expression=code, returnByValue=True, awaitPromise=True
        )
        assert 'exceptionDetails' not in found, found
        return found['result'].get('value')

    @staticmethod
    def until(condition, seconds=60):
        """Return the first true value of a function."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := condition():
                return value
            time.sleep(0.1)
        raise TimeoutError
