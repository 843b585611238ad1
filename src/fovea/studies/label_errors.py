"""Labels that are probably wrong: confident learning on answers of nets that have not seen the image.

Source: Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", JAIR 70 (2021),
arXiv 1911.00068. The threshold of a class is the mean probability of the class over the images that bear its label. An
image is suspect where the probability of its own label lies below the threshold of that class, and that of another
class reaches its own. The suspects are ordered by the log-odds of the given against the suggested label.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fovea.data.imageset import ImageSet, RawData
from fovea.data.label_fixes import COLUMNS
from fovea.data.prepare import encode_parts, labels_of, prepare_splits
from fovea.data.split import Split, cut_folds, make_split
from fovea.errors import SettingsError
from fovea.evaluation.findings import Finding
from fovea.settings import DataSettings, Recipe, with_settings
from fovea.studies.folds import OnFold, held_out_logits, out_of_fold_logits

NUM_FOLDS = 4
