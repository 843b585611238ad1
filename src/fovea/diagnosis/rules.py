"""RULES: every cause that the doctor knows, by its id, in the order in which they are looked at."""

from __future__ import annotations

from fovea.diagnosis.rule import Rule, rules_by_id
from fovea.diagnosis.rules_augmentation import AUGMENTATION_RULES
from fovea.diagnosis.rules_batch import BATCH_RULES
from fovea.diagnosis.rules_curve import CURVE_RULES
from fovea.diagnosis.rules_data import DATA_RULES
from fovea.diagnosis.rules_evaluation import EVALUATION_RULES
from fovea.diagnosis.rules_inputs import INPUT_RULES
from fovea.diagnosis.rules_layers import LAYER_RULES
from fovea.diagnosis.rules_net import NET_RULES
from fovea.diagnosis.rules_program import PROGRAM_RULES
from fovea.diagnosis.rules_settings import SETTINGS_RULES
from fovea.registry import Registry

_ALL = (
    *INPUT_RULES, *DATA_RULES, *SETTINGS_RULES, *AUGMENTATION_RULES, *NET_RULES, *LAYER_RULES, *BATCH_RULES,
    *CURVE_RULES, *EVALUATION_RULES, *PROGRAM_RULES,
)  # fmt: skip
RULES: Registry[Rule] = Registry("rule", rules_by_id(_ALL))
