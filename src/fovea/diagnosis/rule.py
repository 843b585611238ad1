"""Rule and Suspicion: what a rule of the doctor is, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from fovea.diagnosis.record import Record
from fovea.evaluation.findings import Severity

Stage = Literal["data", "settings", "batch", "curve", "evaluation", "program"]


@dataclass(frozen=True)
class Suspicion:
    """What a rule has seen in a record.

    Attributes:
        evidence: the numbers (and names) that show it, plain values.
        cause, cure: in words; the cure names the setting or the code.
        remedy: a change of settings that a trial can make, in Fovea's names ({"lr": 0.01}); None where none can.
        line: of the program.
        weight: 0 to 1, how sure it is; of findings of the same severity the surest comes first.
        severity: another than the rule's, where this case is milder or graver.
    """

    evidence: dict[str, Any]
    cause: str
    cure: str
    remedy: dict[str, Any] | None = None
    line: int | None = None
    weight: float = 0.5
    severity: Severity | None = None


Check = Callable[[Record], Suspicion | None]


@dataclass(frozen=True)
class Rule:
    """One cause that the doctor knows.

    Attributes:
        id: stable, as in the findings' JSON.
        title: the cause in a few words.
        stage: what has to be known: the earlier stage comes first among equals.
        check: the record to a suspicion; None: nothing to say, or not known.
        threshold: when it speaks, exactly; traps: when it must stay silent.
        source: where the rule comes from.
        explains: ids of the rules whose findings follow from this one and are not told beside it.
    """

    id: str
    title: str
    severity: Severity
    stage: Stage
    check: Check = field(repr=False)
    threshold: str
    traps: str
    source: str
    explains: tuple[str, ...] = ()


def rules_by_id(rules: Iterable[Rule]) -> dict[str, Rule]:
    """Rules by their ids, in order."""
    return {rule.id: rule for rule in rules}
