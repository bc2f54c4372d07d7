"""Package surge_mm with its configs and tools, to which ``surge_mm/.mim`` links."""

import runpy
import tempfile
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list[str]:
    """Return the lines of ``requirements/<name>.txt`` without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    bare = (line.partition('#')[0].strip() for line in lines)
    return [line for line in bare if line]


readme = ROOT / 'README.md'

# a build folder in the checkout would add old files to the next wheel
with tempfile.TemporaryDirectory() as build_base:
    setup(
        name='surge-mm',
        version=runpy.run_path(str(ROOT / 'surge_mm' / 'version.py'))['__version__'],
        description='Binary neural networks trained by SURGE, for MMDetection and MMPretrain',
        long_description=readme.read_text(encoding='utf-8') if readme.exists() else '',
        long_description_content_type='text/markdown',
        author='The surge_mm authors',
        license='Apache-2.0',
        python_requires='>=3.10',
        packages=find_packages(include=['surge_mm', 'surge_mm.*']),
        package_data={
            'surge_mm': [
                '.mim/model-index.yml',
                '.mim/configs/**/*',
                '.mim/tools/**/*',
                'py.typed',
            ],
            'surge_mm.deploy.c': ['sources/*'],
            'surge_mm.deploy.packed_file': ['allowed_classes.txt'],
        },
        exclude_package_data={'surge_mm': ['*.pyc', '.mim/**/*.pyc']},
        entry_points={'console_scripts': ['surge-mm = surge_mm.__main__:main']},
        install_requires=requirements('runtime'),
        extras_require={
            extra: requirements(extra)
            for extra in ('lite', 'deploy', 'onnx', 'c', 'language', 'tests', 'docs')
        },
        options={'build': {'build_base': build_base}},
        zip_safe=False,
    )
