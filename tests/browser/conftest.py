"""Options of ``make browser``."""


def pytest_addoption(parser):
    parser.addoption(
        '--detector', metavar='FILE', help='a packed detector; default one with random weights'
    )
    parser.addoption(
        '--screenshot', metavar='FILE', help='write the page with the camera there, *.png'
    )
