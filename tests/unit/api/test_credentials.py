import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from steelyard.api.credentials import api_token, standing
from steelyard.settings import Settings


def test_the_token_is_made_once_and_is_private(tmp_path: Path) -> None:
    """Its owner alone may read it, and it stays the same from then on."""
    settings = Settings(home=tmp_path)
    token = api_token(settings)
    path = settings.secret_dir / "api.token"
    assert len(token) >= 43  # 32 random bytes
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert api_token(settings) == token
    assert [p.name for p in path.parent.iterdir()] == ["api.token"]


def test_everybody_who_makes_the_token_at_once_gets_the_same(tmp_path: Path) -> None:
    """The API and a command may both be first; neither is left with a token that nobody takes."""
    settings = Settings(home=tmp_path)
    with ThreadPoolExecutor(8) as pool:
        tokens = set(pool.map(lambda _: api_token(settings), range(32)))
    assert len(tokens) == 1


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "missing"),
        ("", "missing"),
        ("Bearer", "missing"),
        ("Bearer  ", "missing"),
        ("Basic token", "missing"),
        ("Bearer wrong", "wrong"),
        ("Bearer tökén", "wrong"),
        ("Bearer token", "right"),
        ("bearer token", "right"),
    ],
)
def test_how_a_request_stands(header: str | None, expected: str) -> None:
    """No credentials, wrong ones and the right ones are told apart."""
    assert standing(header, "token") == expected


def test_an_empty_token_file_lets_nobody_in() -> None:
    """A file that somebody emptied does not make every request right."""
    assert standing("Bearer x", "") == "wrong"
