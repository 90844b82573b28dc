"""What `conftest.py` and the test of `make verify` share."""

import pytest

# Of a run's configuration: what of the collected tests is slow on its backend, `(path, names of marks)`.
SLOW = pytest.StashKey[list[tuple[str, set[str]]]]()
