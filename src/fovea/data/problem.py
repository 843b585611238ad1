"""Problem: something about data that makes its figures say less than they seem to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Severity = Literal["note", "warning", "severe"]


@dataclass(frozen=True)
class Problem:
    """Something about data that makes its figures say less than they seem to; training goes on.

    Attributes:
        id: a stable name (docs/audit.md has all of them).
        cause, cure: in words.
        severity: "note": worth knowing; "warning": figures are touched; "severe": they cannot be believed.
        evidence: the numbers that show it, as plain values.
    """

    id: str
    cause: str
    cure: str
    severity: Severity = "warning"
    evidence: Mapping[str, Any] = field(default_factory=dict)
