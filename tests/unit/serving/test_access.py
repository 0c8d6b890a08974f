import hashlib
from dataclasses import replace

import pytest

from steelyard.domain.api_key import ApiKey
from steelyard.domain.serving_snapshot import Snapshot
from steelyard_serving.access import Denied, admit

SECRET = "s" * 43
TEXT = f"sy_0123456789_{SECRET}"
KEY = ApiKey(
    "0123456789", "shop", hashlib.sha256(SECRET.encode()).hexdigest(), 1, models=("digits",)
)
NOW_US = 1_000


def snapshot(key: ApiKey = KEY, *, required: bool = True) -> Snapshot:
    """What a replica goes by when this key is there."""
    return Snapshot(require_keys=required, keys={key.key_id: key})


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {TEXT}"},
        {"authorization": f"bearer   {TEXT} "},
        {"x-api-key": TEXT},
        {"x-api-key": TEXT, "authorization": "Basic dXNlcjpwdw=="},
        {"x-api-key": "of another gate", "authorization": f"Bearer {TEXT}"},
    ],
)
def test_a_key_opens_its_model(headers: dict[str, str]) -> None:
    """In either header, beside credentials that are for somebody else."""
    assert admit(snapshot(), headers, "digits", NOW_US) == KEY


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({}, KEY),
        ({"authorization": "Bearer somebody-elses"}, KEY),
        ({"x-api-key": "sy_"}, KEY),
        ({"x-api-key": f"sy_9876543210_{SECRET}"}, KEY),
        ({"x-api-key": f"sy_0123456789_{'t' * 43}"}, KEY),
        ({"x-api-key": TEXT + "x"}, KEY),
        ({"x-api-key": TEXT}, replace(KEY, expires_us=NOW_US)),
        ({"x-api-key": TEXT}, replace(KEY, revoked_us=5)),
    ],
)
def test_who_has_no_valid_key_is_not_told_why(headers: dict[str, str], key: ApiKey) -> None:
    """Missing, malformed, unknown, wrong, expired and revoked get one and the same answer."""
    with pytest.raises(Denied) as denied:
        admit(snapshot(key), headers, "digits", NOW_US)
    assert denied.value.status == 401
    assert denied.value.message == "This needs a key that is known and valid."
    assert denied.value.headers == {"www-authenticate": "Bearer"}


def test_a_key_is_for_the_models_that_it_names() -> None:
    """Another model is 403; a key that names none is for all."""
    with pytest.raises(Denied, match="not for fashion") as denied:
        admit(snapshot(), {"x-api-key": TEXT}, "fashion", NOW_US)
    assert denied.value.status == 403 and denied.value.headers == {}
    everywhere = replace(KEY, models=())
    assert admit(snapshot(everywhere), {"x-api-key": TEXT}, "fashion", NOW_US) == everywhere


def test_where_no_key_is_needed_one_that_comes_is_still_checked() -> None:
    """Nobody is anonymous by mistake: a revoked key is refused, credentials of others are not."""
    free = snapshot(required=False)
    assert admit(free, {}, "digits", NOW_US) is None
    assert admit(free, {"authorization": "Bearer somebody-elses"}, "digits", NOW_US) is None
    assert admit(free, {"x-api-key": TEXT}, "digits", NOW_US) == KEY
    with pytest.raises(Denied):
        admit(free, {"x-api-key": f"sy_0123456789_{'t' * 43}"}, "digits", NOW_US)


def test_a_key_is_good_until_the_moment_it_expires() -> None:
    """The edge: one microsecond before is before."""
    key = replace(KEY, expires_us=NOW_US)
    assert admit(snapshot(key), {"x-api-key": TEXT}, "digits", NOW_US - 1) == key
