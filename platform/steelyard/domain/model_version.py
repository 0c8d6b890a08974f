"""A registered version: its artefact, signature, lineage, compute profile and evidence."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from steelyard.domain.envelope import Envelope
from steelyard.domain.errors import Fault, InvalidInput, NotFound
from steelyard.domain.evidence import Evidence

Relation = Literal["trained", "quantized", "pruned", "distilled", "finetuned", "exported"]
FlopsOrigin = Literal["counted", "analytic", "inherited", "unknown"]
ONNXRUNTIME, OPENVINO, TORCH = "onnxruntime", "openvino", "torch"
SERVED_BY: Mapping[str, str] = {ONNXRUNTIME: ".onnx", OPENVINO: ".onnx", TORCH: ".safetensors"}
"""The libraries that replicas have, and the suffix of the files that each runs."""
MODEL_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,62}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor in Open Inference Protocol terms; −1 in ``shape`` is a variable dimension."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """What a version takes and gives."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True)
class FlopsProfile:
    """FLOPs of one item of ``signature``; None when they are not known.

    ``coverage`` is the share of the compute operations that were counted, ``unsupported`` names
    the others. ``found`` says where the figures come from: an analytic one is estimated, an
    inherited one is the parent's. ``datatype`` is what the operations compute in (FP32, INT8).
    ``found`` and the fields after it are None or empty in versions older than they are.
    """

    forward: int | None
    train_step: int | None
    method: str
    coverage: float
    found: FlopsOrigin | None = None
    signature: str | None = None
    datatype: str | None = None
    unsupported: tuple[str, ...] = ()
    torch_version: str | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A logged model that is about to become a version: all of it, before anything is written.

    ``recipe_sha256`` is the digest of the recipe that a variant was made by. ``runtime`` is the
    library that runs the file. ``envelope`` is that of the training rows, a variant's the parent's.
    """

    model: str
    run_id: str
    source: str
    artifact: str
    sha256: str
    size_bytes: int
    variant: str
    relation: Relation
    signature: Signature
    parent: int | None = None
    parameters: int | None = None
    flops: FlopsProfile | None = None
    evidence: Evidence | None = None
    recipe_sha256: str | None = None
    runtime: str = ONNXRUNTIME
    envelope: Envelope | None = None


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version in the registry. ``created_us`` is the registry's clock.

    ``recipe_sha256`` is the digest of a variant's recipe; None for trained versions. ``runtime``
    is the library that runs the file, by which it was measured and is served. ``envelope`` is that
    of the rows that it, or a variant's parent, was trained on; None: nobody knows.
    """

    model: str
    version: int
    run_id: str
    source: str
    artifact: str
    sha256: str
    size_bytes: int
    variant: str
    relation: Relation
    signature: Signature
    created_us: int
    parent: int | None = None
    parameters: int | None = None
    flops: FlopsProfile | None = None
    evidence: Evidence | None = None
    aliases: tuple[str, ...] = field(default=())
    recipe_sha256: str | None = None
    runtime: str = ONNXRUNTIME
    envelope: Envelope | None = None

    @property
    def name(self) -> str:
        """``digits/2``, as people write it."""
        return f"{self.model}/{self.version}"

    @property
    def servable(self) -> bool:
        """Whether there are replicas that load the file."""
        suffix = SERVED_BY.get(self.runtime)
        return suffix is not None and self.artifact.endswith(suffix)


@dataclass(frozen=True, slots=True)
class VersionRef:
    """What a person typed: ``digits``, ``digits/2`` or ``digits@champion``."""

    model: str
    version: int | None = None
    alias: str | None = None

    def number(self, aliases: Mapping[str, int]) -> int | None:
        """The version that is meant, where ``aliases`` are the model's; None: none in particular.

        Raises:
            NotFound: the model has no such alias.
        """
        if self.alias is None:
            return self.version
        if self.alias not in aliases:
            known = ", ".join(aliases) or "none"
            raise NotFound(f"{self.model} has no alias {self.alias!r}.", f"It has: {known}.")
        return aliases[self.alias]


def parse_ref(text: str) -> VersionRef:
    """Read ``MODEL``, ``MODEL/VERSION`` or ``MODEL@ALIAS``.

    >>> parse_ref("digits/2")
    VersionRef(model='digits', version=2, alias=None)
    >>> parse_ref("digits@champion").alias
    'champion'

    Raises:
        InvalidInput: the text is none of the three.
    """
    model, slash, number = text.partition("/")
    alias = ""
    if not slash:
        model, at, alias = text.partition("@")
        if at and not MODEL_NAME.fullmatch(alias):
            raise _bad_ref(text)
    elif not number.isdecimal() or int(number) < 1:
        raise _bad_ref(text)
    if not MODEL_NAME.fullmatch(model):
        raise _bad_ref(text)
    return VersionRef(model, int(number) if number else None, alias or None)


def parse_model(text: str) -> str:
    """Read ``MODEL``, where no version may be named: it would not be heeded.

    >>> parse_model("digits")
    'digits'

    Raises:
        InvalidInput: the text is no model's name, or names a version.
    """
    ref = parse_ref(text)
    if ref.model != text:
        fault = Fault("model", f"{text!r} names a version, and this is about the whole model")
        raise InvalidInput(str(fault), (fault,), f"Leave it out: {ref.model}.")
    return ref.model


def _bad_ref(text: str) -> InvalidInput:
    fault = Fault("model", f"{text!r} is not MODEL, MODEL/VERSION or MODEL@ALIAS")
    return InvalidInput(str(fault), (fault,), "Names use a-z, 0-9, '-' and '_': digits/2.")
