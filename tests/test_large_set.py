"""A set of images that is larger than the memory a process may take trains all the same. Slow: `make test-slow`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

COUNT, SIDE, LIMIT_MEGABYTES = 42_000, 128, 1_500
SCRIPT = """
import json, resource, sys
limit = int(sys.argv[2]) * 2**20
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
import numpy as np
import fovea
size = int(sys.argv[3])
try:
    np.empty(size, np.uint8)[:] = 1
    fits = True
except MemoryError:
    fits = False
run = fovea.train(
    sys.argv[1], model="p4-dense", image_size=128, epochs=1, steps_per_epoch=40, batch_size=64, eval_batch_size=100,
    verbose=False,
)
print(json.dumps({"fits": fits, "accuracy": run.test_accuracy.value, "count": run.test_accuracy.count}))
"""


def test_a_set_larger_than_the_memory_limit_trains(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for row in range(COUNT):
        path = tmp_path / "set" / "ab"[row % 2] / f"{row:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 80, (16, 16, 3), dtype=np.uint8)
        image[:, : 8 if row % 2 else 2] += 120
        Image.fromarray(image).save(path, compress_level=0)
    decoded = COUNT * SIDE * SIDE * 3
    assert decoded > 1.3 * LIMIT_MEGABYTES * 2**20
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "set"), str(LIMIT_MEGABYTES), str(decoded)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["fits"] is False  # as an array it would not have fitted
    assert found["count"] == COUNT // 5
    assert found["accuracy"] > 0.95
