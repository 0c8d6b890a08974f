"""What a charge is called in a FOCUS file: service, resource, team, tags, description.

Rows that split one resource's charge among several workloads share every dimension of the whole
charge, as the specification asks; whom each part is for stands in the ``Allocated`` columns.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from steelyard.domain.charge import Charge, Origin
from steelyard.domain.ledger import Account

_SERVICES = {
    "train": "Model Training", "tune": "Model Training", "distill_label": "Model Training",
    "compress": "Model Compression", "evaluate": "Model Evaluation", "shadow": "Model Evaluation",
    "serve": "Model Serving", "batch": "Model Serving", "stream": "Model Serving",
    "warmup": "Model Serving", "edge": "Model Serving",
}  # fmt: skip
_OF_PHASE = {"training": "Model Training", "inference": "Model Serving"}
RESERVED = "Reserved Capacity"
_OF_KIND = {"replica": "Model Serving", "train_worker": "Model Training"}


@dataclass(frozen=True, slots=True)
class Naming:
    """Texts of a row. ``allocated_*`` are None where nothing is split, or nobody got the part."""

    service: str
    resource_id: str
    resource_name: str
    resource_type: str
    team: str | None
    description: str
    tags: str | None
    allocated_id: str | None = None
    allocated_name: str | None = None
    allocated_tags: str | None = None


def naming(
    charge: Charge,
    variants: Mapping[tuple[str, int], str],
    teams: Mapping[str, str],
    with_split: bool,
) -> Naming:
    """The names of a charge; ``with_split`` when the version of FOCUS knows split costs."""
    account, origin = charge.account, charge.origin
    team = teams.get(account.model or "") or (origin.team if origin else None)
    tags = _tags(account, variants, team)
    if charge.split is None or not with_split or origin is None:
        resource = _resource(account, origin)
        return Naming(_service(account, origin), *resource, team, _description(charge), tags)
    whole = Naming(
        _OF_KIND.get(origin.kind, RESERVED), origin.name, origin.name, _type(origin), origin.team,
        f"{_when(charge)}{origin.name}: reserved device time, shared",
        json.dumps({"resource": origin.name}, ensure_ascii=False),
    )  # fmt: skip
    if account.role == "idle":
        return whole
    resource_id, name, _ = _resource(account, None)
    return replace(
        whole,
        allocated_id=f"{resource_id}/{account.activity}",
        allocated_name=f"{name} {account.activity}",
        allocated_tags=tags,
    )


def _service(account: Account, origin: Origin | None) -> str:
    if account.activity is not None and account.role != "idle":
        return _SERVICES[account.activity]
    if account.phase is not None:
        return _OF_PHASE[account.phase]
    return _OF_KIND.get(origin.kind, RESERVED) if origin else RESERVED


def _resource(account: Account, origin: Origin | None) -> tuple[str, str, str]:
    """Identifier, name and type of what a charge is for."""
    if account.model is not None and account.version is not None:
        name = f"{account.model}/{account.version}"
        return f"models:/{name}", name, "Model Version"
    if account.run_id is not None:
        return f"runs:/{account.run_id}", f"{account.model} run {account.run_id}", "Run"
    if account.model is not None:
        return f"models:/{account.model}", account.model, "Model"
    if origin is not None:
        return origin.name, origin.name, _type(origin)
    return account.path, account.path, "Account"


def _type(origin: Origin) -> str:
    return origin.kind.replace("_", " ").title()


def _description(charge: Charge) -> str:
    name = _resource(charge.account, charge.origin)[1]
    if charge.origin is None:
        way = "to" if charge.cost_nano > 0 else "from"
        return f"{_when(charge)}Cost that was moved {way} {charge.account.path}"
    what = "reserved, not used" if charge.account.role == "idle" else str(charge.account.activity)
    return f"{_when(charge)}{name}: {what}"


def _when(charge: Charge) -> str:
    if not charge.correction:
        return ""
    return "Reversal in a closed month: " if charge.cost_nano < 0 else "Late for a closed month: "


def _tags(
    account: Account, variants: Mapping[tuple[str, int], str], team: str | None
) -> str | None:
    variant = variants.get((account.model or "", account.version or 0))
    tags = {
        "model": account.model, "version": str(account.version) if account.version else None,
        "variant": variant, "phase": account.phase, "activity": account.activity,
        "run_id": account.run_id, "team": team,
    }  # fmt: skip
    known = {key: value for key, value in tags.items() if value is not None}
    return json.dumps(known, ensure_ascii=False) if known else None
