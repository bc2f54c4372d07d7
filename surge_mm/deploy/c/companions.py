"""What belongs to an exported C file: a program, a compiled library with a class of Python, a page of a browser."""

from __future__ import annotations

import base64
from pathlib import Path

from surge_mm.deploy.c.assemble import MOST_THREADS, TEAM, CFile, filled, source
from surge_mm.deploy.c.compile import compile_program, compile_shared, compile_wasm
from surge_mm.utils.atomic_write import write_atomically

LIBRARIES = '.so', '.dylib', '.dll'
WASM = '.wasm'
SUFFIXES = *LIBRARIES, WASM


class Companions:
    """Files beside an exported C file, all with its stem.

    Args:
        path (Path): What is exported, a C file, a shared library or a WebAssembly module. The C file and its header are
            written beside the latter two.
        with_main (bool): Whether a program is written too, and compiled with a library. Defaults to False.
        target (str, optional): See :func:`surge_mm.deploy.c.compile.compile_shared`. Defaults to None.
        threads (bool): Whether a library and its program can use several threads. Defaults to False.

    Attributes:
        c_file (Path): The C file.
    """

    def __init__(
        self,
        path: Path,
        with_main: bool = False,
        target: str | None = None,
        threads: bool = False,
    ) -> None:
        self.path = path
        self.target = target
        self.threads = threads
        self.c_file = path.with_suffix('.c')
        stem = path.stem
        self.main = path.with_name(f'{stem}_main.c') if with_main else None
        self.is_library = path.suffix in LIBRARIES
        # with the stem alone, Python would import the library
        self.module = path.with_name(f'{stem}_numpy.py') if self.is_library else None
        program = path.with_suffix('.exe' if path.suffix == '.dll' else '')
        self.page = path.with_suffix('.html') if path.suffix == WASM else None
        self.program = program if self.is_library and with_main else None

    @property
    def files(self) -> list[Path]:
        """All files that are written."""
        all_files = self.c_file, self.c_file.with_suffix('.h'), self.main, self.path
        found = [file for file in (*all_files, self.module, self.program, self.page) if file]
        return list(dict.fromkeys(found))

    def write(self, made: CFile) -> list[Path]:
        """Write the files beside the C file and its header. Those for boxes are left out without boxes.

        Args:
            made (CFile): The exported model.

        Returns:
            list[Path]: The files.

        Raises:
            UsageError: if there is no compiler, or it fails. The files that need none are written.
            WriteError: if a file cannot be written.
        """
        values = {
            'name': self.path.stem,
            'NAME': self.path.stem.upper(),
            'library': self.path.name,
            'memory': str(made.memory),
            'workspace': str(made.workspace),
            'team': str(TEAM),
            'most_threads': str(MOST_THREADS),
            'n_classes': str(made.classes),
            'n_boxes': str(made.boxes),
        }
        written = []
        for file, template in ((self.main, 'main.c'), (self.module, 'detector.py.in')):
            if file and made.boxes:
                write_atomically(file, filled(source(template), values).encode())
                written.append(file)
        if self.is_library:
            compile_shared(self.c_file, self.path, self.target, self.threads)
            written.append(self.path)
        elif self.path.suffix == WASM:
            compile_wasm(self.c_file, self.path)
            written.append(self.path)
        if self.page and made.boxes:
            values['wasm'] = base64.b64encode(self.path.read_bytes()).decode()
            write_atomically(self.page, filled(source('page.html'), values).encode())
            written.append(self.page)
        if self.program and self.main in written:
            sources = [self.c_file, self.main]
            compile_program(sources, self.program, self.target, self.threads)
            written.append(self.program)
        return written
