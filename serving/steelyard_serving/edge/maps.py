"""The edge's maps: what they hold for a set of routes, as text and on disk."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import orjson

from steelyard.domain.traffic import Route

Entries = Mapping[str, str]
WORD = re.compile(r"[A-Za-z0-9_.:/-]+")


def route_entries(routes: Mapping[str, Route]) -> dict[str, str]:
    """One line a model: all that the choice of a version needs, so that one write is atomic.

    >>> route_entries({"m": Route("m", stable=1, generation=7, canary=2, weight_bp=500)})
    {'m': '1|2|500|-|7'}
    """
    return {
        model: f"{r.stable}|{r.canary or ''}|{r.weight_bp}|{_word(r.lineage)}|{r.generation}"
        for model, r in sorted(routes.items())
    }


def deployed_entries(deployed: frozenset[tuple[str, int]]) -> dict[str, str]:
    """The versions that answer when asked for by number."""
    return {f"{model}/{version}": "1" for model, version in sorted(deployed)}


def status_entries(
    routes: Mapping[str, Route], deployed: frozenset[tuple[str, int]]
) -> dict[str, str]:
    """What the edge says of the whole: is it ready, and which versions are there.

    Ready means: something is routed and every model's stable version is deployed. The index is
    JSON without a space, as a map holds it: all that is deployed or should be, and the ready ones.
    """
    stable = {(route.model, route.stable) for route in routes.values()}
    index = [_indexed(*key, key in deployed) for key in sorted(stable | deployed)]
    ready = [one for one in index if one["state"] == "READY"]
    return {
        "ready": str(int(bool(routes) and stable <= deployed)),
        "index": orjson.dumps(index).decode(),
        "index_ready": orjson.dumps(ready).decode(),
    }


def _indexed(model: str, version: int, ready: bool) -> dict[str, str]:
    """A line of Triton's repository index."""
    state, reason = ("READY", "") if ready else ("UNAVAILABLE", "not-deployed")
    return {"name": model, "version": str(version), "state": state, "reason": reason}


def generations(entries: Entries) -> dict[str, int]:
    """Model -> generation, from the entries of a live or stored route map."""
    return {model: int(value.rpartition("|")[2]) for model, value in entries.items()}


def text_of(entries: Entries) -> str:
    """A map as HAProxy reads it: a key and a value a line."""
    return "".join(f"{key} {value}\n" for key, value in entries.items())


def _word(lineage: str) -> str:
    """A lineage as it may stand in a map, where lines, spaces and bars have a meaning."""
    if not WORD.fullmatch(lineage):
        raise ValueError(f"a lineage is letters, digits and -_.:/, found {lineage!r}")
    return lineage


def read_map(path: Path) -> dict[str, str]:
    """The entries of a map on disk; none when it does not exist yet."""
    if not path.exists():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition(" ") for line in lines if line)
    return {key: value for key, _, value in pairs}


def write_private(path: Path, text: str) -> None:
    """Replace a file as a whole, readable by this user alone; durable when this returns."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    handle = os.open(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(path)
