import pytest
from helpers.glue_files import write_glue, write_vocabulary


@pytest.fixture
def root(tmp_path):
    return write_glue(tmp_path / 'glue')


@pytest.fixture
def vocab(tmp_path):
    return str(write_vocabulary(tmp_path))
