"""Answers that stable gave because a candidate could not be reached: the candidate's failures.

The record names the version that answered. Whose place it took, the bucket tells: it lies among the
buckets that may be the candidate's.
"""

from typing import Any

from sqlalchemy import ColumnElement, and_, case

from steelyard.adapters.sql.tables import audit


def in_place_of(first_bucket: Any, end_bucket: Any) -> ColumnElement[bool]:
    """Whether stable answered in the place of the candidate that has these buckets."""
    p = audit.prediction.c
    return and_(p.arm == "fallback", p.bucket >= first_bucket, p.bucket < end_bucket)


def arm_of(fallback: ColumnElement[bool]) -> ColumnElement[Any]:
    """The arm that a record counts for, with the fallbacks of a candidate as the canary's."""
    arm = audit.prediction.c.arm
    return case((fallback, "canary"), else_=arm)
