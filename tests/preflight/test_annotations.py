from surge_mm.preflight.annotations import some


def test_some_names_the_first_and_counts_the_rest():
    assert some('abcdefghijklm') == 'a, b, c, d, e, f, g, h, i, j, and 3 more'
    assert some('abc') == 'a, b, c'


def test_some_escapes_what_a_terminal_cannot_show():
    assert some(['a\nb', '\x1b[2J', 'ä 画', '\ud800']) == 'a\\nb, \\x1b[2J, ä 画, \\ud800'
