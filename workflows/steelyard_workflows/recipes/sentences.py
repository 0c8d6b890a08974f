"""Sentences from the documentation inside four libraries that Steelyard installs anyway.

Real text by many authors, with a label that nobody had to write: the library it comes from. Files
are read as text, nothing is imported. Which sentences there are depends on the libraries'
versions; the data's digest says whether two runs saw the same.
"""

import hashlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

from steelyard.domain.errors import InvalidInput

SOURCES = ("mlflow", "sklearn", "sqlalchemy", "torch")
"""A label is the position here."""

FOLDERS = {"torch": ("nn", "optim", "distributions", "utils", "distributed")}
"""Where to look, when not everywhere: most of torch's files hold no prose."""

PER_SOURCE = 4_000
SHORTEST, LONGEST = 40, 200
DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
SENTENCE = re.compile(rf"[A-Z][^.:>`|]{{{SHORTEST - 2},{LONGEST - 2}}}\.(?=\s|$)")


def sentences() -> list[tuple[str, int, str]]:
    """Text, label and file of each: the same number from every source, no text twice.

    Raises:
        InvalidInput: a library is not installed with its sources, or has too little text.
    """
    rows: list[tuple[str, int, str]] = []
    seen: set[str] = set()
    for label, source in enumerate(SOURCES):
        before = len(rows)
        for file, text in _texts(source):
            for found in SENTENCE.findall(text):
                sentence = " ".join(found.split())
                if sentence not in seen and len(rows) - before < PER_SOURCE:
                    seen.add(sentence)
                    rows.append((sentence, label, file))
            if len(rows) - before == PER_SOURCE:
                break
        if len(rows) - before < PER_SOURCE:
            raise InvalidInput(
                f"{source} has {len(rows) - before} sentences of documentation here, "
                f"{PER_SOURCE} are needed.",
                hint="Install it with its source files.",
            )
    return rows


def bucket(name: str, buckets: int) -> int:
    """A number below ``buckets`` that depends on the name alone, on every machine alike."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") % buckets


def _texts(source: str) -> Iterator[tuple[str, str]]:
    """File and paragraph, all of a library, in an order that mixes its folders."""
    found = importlib.util.find_spec(source)
    if found is None or found.origin is None:
        return
    root = Path(found.origin).parent
    places = [root / folder for folder in FOLDERS.get(source, ("",))]
    files = {str(path.relative_to(root)): path for place in places for path in place.rglob("*.py")}
    for name in sorted(files, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if "test" not in name:
            for text in DOCSTRING.findall(
                files[name].read_text(encoding="utf-8", errors="replace")
            ):
                yield from ((f"{source}/{name}", part) for part in text.split("\n\n"))
