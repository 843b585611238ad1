"""RULES: every cause that the doctor knows, by its id, in the order in which they are looked at."""

from __future__ import annotations

from fovea.diagnosis.rule import Rule, rules_by_id
from fovea.diagnosis.rules_program import PROGRAM_RULES
from fovea.registry import Registry

RULES: Registry[Rule] = Registry("rule", rules_by_id(PROGRAM_RULES))
