import hashlib
import re
from pathlib import Path

import pytest

from steelyard.api import app, rendering

VENDOR = app.STATIC / "vendor"
TEMPLATES = Path(rendering.__file__).parent / "templates"


def test_vendored_files_are_the_released_ones() -> None:
    """Every vendored file has the digest that was written down when it was taken; none is extra."""
    lines = (VENDOR / "SHA256SUMS").read_text().splitlines()
    manifest = {name: digest for digest, name in (line.split() for line in lines)}
    present = {p.name for p in VENDOR.iterdir()} - {"SHA256SUMS"}
    assert present == set(manifest)
    for name, digest in manifest.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.parametrize("library", ["htmx", "uplot", "pico"])
def test_every_vendored_library_has_its_licence(library: str) -> None:
    """What is not ours says whose it is."""
    assert (VENDOR / f"{library}-LICENSE.txt").read_text().strip()


@pytest.mark.parametrize("template", sorted(TEMPLATES.iterdir()), ids=lambda p: p.name)
def test_templates_need_no_inline_script_or_style(template: Path) -> None:
    """The policy forbids both, so a template that has one would break in silence."""
    text = template.read_text()
    assert not re.search(r"\sstyle=|<style|\son[a-z]+=|hx-on|javascript:", text)
    for script in re.findall(r"<script[^>]*>", text):
        assert "src=" in script or "application/json" in script


@pytest.mark.parametrize("template", sorted(TEMPLATES.iterdir()), ids=lambda p: p.name)
def test_every_file_that_a_template_names_is_served(template: Path) -> None:
    """A new release of a library changes its file's name here and there together."""
    for name in re.findall(r'"/static/([^"]+)"', template.read_text()):
        assert (app.STATIC / name).is_file(), name
