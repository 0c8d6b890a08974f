from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from steelyard.api.app import create_app
from steelyard.bootstrap import Platform


@pytest.fixture
def client(seeded: Platform) -> Iterator[TestClient]:
    """A client of the API over the seeded platform."""
    with TestClient(create_app(seeded), base_url="http://localhost") as client:
        yield client


@pytest.fixture
def fresh(empty: Platform) -> Iterator[TestClient]:
    """A client of the API of a platform that has seen nothing."""
    with TestClient(create_app(empty), base_url="http://localhost") as client:
        yield client
