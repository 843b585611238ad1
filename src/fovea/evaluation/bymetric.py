"""ByMetric: values by the names of metrics, Keras' names among them."""

from __future__ import annotations

from typing import Any, TypeVar

from fovea.registry import unknown_name
from fovea.settings import METRIC_ALIASES

Value = TypeVar("Value")


class ByMetric(dict[str, Value]):
    """Metric name -> value; Keras' names `loss`, `acc`, `accuracy`, `val_acc` are understood.

    Raises:
        SettingsError: when an unknown name is asked for.
    """

    def __missing__(self, name: str) -> Value:
        if name in self:
            return self[METRIC_ALIASES[name]]
        raise unknown_name("metric", name, self)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(METRIC_ALIASES.get(str(name), name))

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a metric, by either name; `default` where there is none."""
        return super().get(METRIC_ALIASES.get(name, name), default)


class History(ByMetric[list[float]]):
    """Metric name -> one value an epoch."""
