"""The one reason for which tests of this project do not run: the machine forbids namespaces.

Whoever calls :func:`need_namespaces` is skipped, with one clear line, where the process is not
root, iproute2 is not installed, or the kernel refuses; everywhere else the test runs.
"""

import pytest

from tests.chaos.network import missing


def need_namespaces() -> None:
    """Skips the calling test where network namespaces cannot be had."""
    reason = missing()
    if reason:
        pytest.skip(f"real networks need root and namespaces: {reason}")
