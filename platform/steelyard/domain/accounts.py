"""The names of accounts: a path says everything about its account, so the chain covers it.

Entries are hashed with the paths of their accounts. Reports read the columns beside the path
(role, phase, model, version, activity, run); those hold exactly when the path follows from them.
"""

from steelyard.domain.ledger import Account
from steelyard.domain.metering import Activity, LedgerPhase

ROLES = {
    "supply": "supply", "pool": "pool", "model": "consumer", "idle": "idle", "overhead": "overhead",
}  # fmt: skip
"""First word of a path -> role."""


def consumer(
    phase: LedgerPhase, model: str, version: int | None, activity: Activity, run_id: str | None
) -> Account:
    """What a version used in an activity, or a run that has no version yet."""
    return _named("consumer", phase, model, version, activity, run_id)


def owned_idle(phase: LedgerPhase, model: str, version: int | None, run_id: str | None) -> Account:
    """Reserved and unused time that belongs to a version, or to a run that has none yet."""
    return _named("idle", phase, model, version, None, run_id)


def moved(account: Account, version: int | None) -> Account:
    """Where a run's account goes: to the version that came out, else to the model's failures."""
    assert account.phase is not None and account.model is not None
    return _named(account.role, account.phase, account.model, version, account.activity, None)


def is_failed(account: Account) -> bool:
    """Whether it holds what a model's runs cost that ended without a version."""
    return account.model is not None and account.version is None and account.run_id is None


def holds(account: Account) -> bool:
    """Whether the columns of an account are those that its path was made from.

    >>> holds(Account("pool:r", "pool"))
    True
    >>> holds(Account("model:m/1:inference:serve", "consumer", "inference", "m", 2, "serve"))
    False
    """
    a = account
    if a.role in ("consumer", "idle") and a.phase is not None and a.model is not None:
        return a == _named(a.role, a.phase, a.model, a.version, a.activity, a.run_id)
    plain = a == Account(a.path, a.role)
    return plain and ROLES.get(a.path.split(":", 1)[0]) == a.role and not _is_owned(a.path)


def _is_owned(path: str) -> bool:
    return path.startswith(("model:", "idle:model:"))


def _named(
    role: str, phase: LedgerPhase, model: str, version: int | None, activity: Activity | None,
    run_id: str | None,
) -> Account:  # fmt: skip
    whose = f"model:{model}/{version}:{phase}" if version is not None else f"model:{model}:{phase}"
    if version is None:
        whose += ":failed" if run_id is None else f":run/{run_id}"
    path = ("idle:" if role == "idle" else "") + whose + (f":{activity}" if activity else "")
    run_id = run_id if version is None else None
    return Account(path, role, phase, model, version, activity, run_id)  # type: ignore[arg-type]
