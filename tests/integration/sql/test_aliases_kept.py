"""What is kept about the registry: aliases, drifts, deletions, served versions, automatic plans."""

from dataclasses import replace

import pytest
from sqlalchemy import Engine

from steelyard.adapters.sql.aliases import AliasStore
from steelyard.adapters.sql.auto_rollouts import AutoRolloutStore
from steelyard.adapters.sql.deletions import DeletionStore
from steelyard.adapters.sql.rollouts import RolloutStore
from steelyard.adapters.sql.served_versions import ServedVersionStore
from steelyard.domain.aliases import AliasDrift, Mirror
from steelyard.domain.auto_rollout import AutoRollout
from steelyard.domain.deletion import Deletion
from steelyard.domain.evidence import Evidence
from steelyard.domain.model_version import FlopsProfile, ModelVersion, Signature, TensorSpec
from steelyard.domain.presets import PRESETS

from .conftest import forge

pytestmark = pytest.mark.integration

FOUND = AliasDrift(1, "m", "champion", "found", 3, None, "controller", "somebody moved it")
TENSOR = TensorSpec("x", "FP32", (-1, 4))
VERSION = ModelVersion(
    "m", 3, "run", "models:/m-1", "model.onnx", "a" * 64, 10, "int8", "quantized",
    Signature((TENSOR,), (TENSOR,)), 7, parent=2, parameters=5,
    flops=FlopsProfile(4, None, "by hand", 1.0, unsupported=("Loop",)),
    evidence=Evidence(10, 0.9, 100, 0.125, 0.25, {"cpu": "test"}), aliases=("champion",),
)  # fmt: skip


def test_a_mirror_is_the_present_and_drifts_are_history(engine: Engine) -> None:
    """Of an alias only what is known now; of drifts every row, the newest of each alias first."""
    store = AliasStore(engine)
    for mirror in (Mirror(None, 3), Mirror(3, 3)):
        store.mirror(("m", "champion"), mirror)
    store.mirror(("n", "champion"), Mirror())
    assert store.mirrors() == {("m", "champion"): Mirror(3, 3), ("n", "champion"): Mirror()}
    rows = [FOUND, replace(FOUND, alias="previous", found=9), replace(FOUND, verb="restored")]
    for row in rows:
        store.record(row)
    assert store.history("m") == rows
    assert store.newest() == {("m", "champion"): rows[2], ("m", "previous"): rows[1]}
    assert store.history("n") == []


def test_a_forged_drift_is_found(engine: Engine) -> None:
    """Drifts and deletions are chained as promotions are: one changed letter breaks the chain."""
    store = AliasStore(engine)
    for found in (5, 6):
        store.record(replace(FOUND, found=found))
    rollouts = RolloutStore(engine)
    assert rollouts.first_break() is None
    forge(engine, "alias_drift", "update alias_drift set found = 7 where seq = 1")
    broken = rollouts.first_break()
    assert broken is not None and (broken[0], broken[1].seq) == ("alias_drift", 1)


def test_a_deletion_is_recorded_once(engine: Engine) -> None:
    """Whoever repeats it changes neither who did it nor why."""
    store = DeletionStore(engine)
    first = Deletion(1, "m", 3, "a" * 64, "ada", "unused")
    for one in (first, replace(first, actor="bob", at_us=2), replace(first, version=4)):
        store.record(one)
    assert store.deletions("m") == [first, replace(first, version=4)]
    assert store.last_asked_us("m", 3) is None


def test_a_served_version_is_kept_as_it_first_was(engine: Engine) -> None:
    """All of it but its aliases; what the registry says later changes nothing."""
    store = ServedVersionStore(engine)
    assert store.version("m", 3) is None
    store.keep(VERSION, 1)
    store.keep(replace(VERSION, sha256="b" * 64), 2)
    assert store.version("m", 3) == replace(VERSION, aliases=())


def test_the_newest_automatic_plan_counts(engine: Engine) -> None:
    """Its plan comes back as it was set, and the history stays."""
    store = AutoRolloutStore(engine)
    on = AutoRollout("m", PRESETS["careful"], "careful", "ada", "why not", 5, 5)
    off = replace(on, plan=None, plan_name="", set_us=9)
    store.set(on)
    assert store.current() == {"m": on}
    store.set(off)
    assert store.current() == {"m": off}
    assert store.history("m") == [on, off]
    assert store.tried("m") == frozenset()
