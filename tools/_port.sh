# Sets "port" for torchrun: PORT if it is free, or any free one on a single machine. Needs "python" of _python.sh.
port=$("$python" - << 'END'
import os
import socket
import sys

given = os.environ.get('PORT') or ('0' if os.environ.get('NNODES', '1') == '1' else '29500')
if os.environ.get('NODE_RANK', '0') == '0':  # the ranks of all machines meet here
    try:
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(('', int(given)))
            given = free.getsockname()[1]
    except (OSError, OverflowError, ValueError) as error:
        sys.exit(
            f'error: PORT={given} cannot be used ({error}): set PORT to a free port, the same on all machines; on a '
            'single machine, leave PORT unset'
        )
print(given)
END
)
