"""Docstrings of public functions describe every parameter."""

from helpers.docstrings import described_names, public_functions


def test_docstrings_name_every_parameter_of_public_functions_with_two_or_more():
    functions = list(public_functions())
    assert len(functions) >= 187
    assert {function.name: function.missing for function in functions if function.missing} == {}


def test_names_are_read_from_the_sections_asked_for():
    docstring = """Do something.

    Args:
        x (Tensor): shape (N, C): the input.
        a, b (int): two numbers,
            wrapped: like this.
        **options: others.

    Returns:
        y: not a parameter.
    """
    assert described_names(docstring, ('Args',)) == {'x', 'a', 'b', 'options'}
    assert described_names(docstring, ('Attributes',)) == set()


def test_a_parameter_without_description_is_found(tmp_path):
    package = tmp_path / 'package'
    package.mkdir()
    (package / 'module.py').write_text(
        'def described(a, b):\n    """Add.\n\n    Args:\n        a: x.\n        b: y.\n    """\n\n'
        'def incomplete(a, b):\n    """Add.\n\n    Args:\n        a: x.\n    """\n\n'
        'def _private(a, b): ...\n'
        'def one_parameter(a): ...\n'
        'class Pair:\n    def __init__(self, first, second): ...\n'
    )
    (package / '_private.py').write_text('def function(a, b): ...\n')
    found = {function.name: function.missing for function in public_functions(package)}
    assert found == {
        'package.module.described': [],
        'package.module.incomplete': ['b'],
        'package.module.Pair': ['first', 'second'],
    }
