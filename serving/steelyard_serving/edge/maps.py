"""The edge's maps: what they hold for a set of routes, as text and on disk."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import orjson

from steelyard.domain.traffic import Route, Share, in_order

Entries = Mapping[str, str]
WORD = re.compile(r"[A-Za-z0-9_.:/-]+")


def route_entries(routes: Mapping[str, Route]) -> dict[str, str]:
    """One line a model: all that the choice of a version needs, so that one write is atomic.

    Stable, the first share's version and end, lineage, generation. Only where the first share does
    not begin at bucket 0 or there are others: its beginning, and version, beginning and end of each
    other one. So the usual line is short, and the edge looks no further than it must.

    >>> route_entries({"m": Route("m", stable=1, generation=7, shares=(Share(2, 0, 500),))})
    {'m': '1|2|500|-|7'}
    """
    return {model: _line(route) for model, route in sorted(routes.items())}


def route_of(model: str, line: str) -> Route:
    """The route that a line of the map stands for.

    >>> route_of("m", "1|2|500|-|7|0|3|5000|5250").shares[1]
    Share(version=3, offset_bp=5000, weight_bp=250)
    """
    stable, version, end, lineage, generation, *more = line.split("|")
    parts = [version or "0", more[0] if more else "0", end, *more[1:]]
    shares = (map(int, parts[at : at + 3]) for at in range(0, len(parts), 3))
    return Route(
        model, int(stable), int(generation),
        in_order([Share(candidate, first, end - first) for candidate, first, end in shares]),
        lineage,
    )  # fmt: skip


def _line(route: Route) -> str:
    shares = route.shares or (Share(0, 0, 0),)
    first, *others = shares
    usual = (route.stable, first.version or "", first.end_bp, _word(route.lineage),
             route.generation)  # fmt: skip
    if not others and not first.offset_bp:
        return "|".join(map(str, usual))
    more = (part for s in others for part in (s.version, s.offset_bp, s.end_bp))
    return "|".join(map(str, (*usual, first.offset_bp, *more)))


def deployed_entries(deployed: frozenset[tuple[str, int]]) -> dict[str, str]:
    """The versions that answer when asked for by number."""
    return {f"{model}/{version}": "1" for model, version in sorted(deployed)}


def door_entries(doors: Mapping[tuple[str, int], int]) -> dict[str, str]:
    """Where the replicas of each version answer."""
    return {f"{model}/{version}": str(port) for (model, version), port in sorted(doors.items())}


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
    return {model: route_of(model, line).generation for model, line in entries.items()}


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
