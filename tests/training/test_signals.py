"""The first signal asks, the second stops at once, and who handled signals before gets them in the end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from fovea.training.signals import StoppedBySignal, StopRequest, stop_on_signals


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def receive(seen: list[Any], *numbers: int) -> None:
    """Receive signals within the context and then stop, as the loop does; `seen` gets what happens."""
    with stop_on_signals() as stop:
        for number in numbers:
            signal.raise_signal(number)
            seen.append(stop.name)
        raise StoppedBySignal(stop.name)


def exits(number: int, _: object) -> None:
    raise SystemExit(128 + number)


def test_the_first_signal_only_asks_and_the_handler_of_before_gets_it_on_the_way_out() -> None:
    signal.signal(signal.SIGTERM, exits)
    seen: list[Any] = []
    with pytest.raises(SystemExit) as caught:
        receive(seen, signal.SIGTERM)
    assert seen == ["SIGTERM"]
    assert caught.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is exits


def test_a_signal_that_came_too_late_for_the_loop_is_not_swallowed() -> None:
    with pytest.raises(KeyboardInterrupt), stop_on_signals():
        signal.raise_signal(signal.SIGINT)


def test_the_second_signal_stops_at_once() -> None:
    seen: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        receive(seen, signal.SIGINT, signal.SIGINT)
    assert seen == ["SIGINT"]


def test_a_handler_that_returns_does_not_let_training_seem_done() -> None:
    calls: list[Any] = []
    signal.signal(signal.SIGUSR1, lambda number, _: calls.append(number))
    with pytest.raises(SystemExit) as caught:
        receive([], signal.SIGUSR1)
    assert calls == [signal.SIGUSR1]
    assert caught.value.code == 128 + signal.SIGUSR1


def test_an_ignored_signal_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_on_signals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.number is None


def test_an_error_passes_and_the_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ValueError, match="mine"), stop_on_signals():
        raise ValueError("mine")
    assert signal.getsignal(signal.SIGINT) is before


def test_outside_of_the_main_thread_nothing_is_caught() -> None:
    found: list[Any] = []

    def work() -> None:
        with stop_on_signals() as stop:
            found.append((stop, signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(StopRequest(), before)]
