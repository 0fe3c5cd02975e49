"""What all tests on a GPU share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def _compiled_code_of_its_own(own_folder_for_compiled_code: None) -> None:
    """For each module."""
