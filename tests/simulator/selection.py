"""What a session of pytest has selected, so that only that is run, and all of it at once."""

from typing import Any

import pytest


def selected(request: pytest.FixtureRequest, parameter: str) -> list[Any]:
    """The values of a parameter in the tests that this session will run, in their order."""
    functions = [item for item in request.session.items if isinstance(item, pytest.Function)]
    calls = [function.callspec for function in functions if hasattr(function, "callspec")]
    return [call.params[parameter] for call in calls if parameter in call.params]
