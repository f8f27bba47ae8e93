"""What a test's server forks its workers from, see `web_server.py`: all that is slow is imported, evaluations are small."""

import matplotlib.pyplot  # noqa: F401
import pytest
from helpers import small_evaluations

from scorefield.web import forms, shown  # noqa: F401

small_evaluations(pytest.MonkeyPatch())
