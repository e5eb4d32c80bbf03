"""What the programs that tell Prometheus of Slurm share: a sample, an answer that is kept, the server.

They run on nodes by Debian's Python and its prometheus_client; nothing else of hpcstate is there.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

REST = 10
"""An answer is kept so many times as long as it took: what is asked is busy with us a tenth of the time at
most."""


class Sample(NamedTuple):
    """One number, its name and its labels. It counts up where the name ends with ``_total``."""

    name: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()


class LastAnswer:
    """The last answer of ``ask``, and for how long it counts: ``interval`` seconds, and REST times as long as
    it took."""

    def __init__(
        self,
        interval: float,
        ask: Callable[[], list[Sample]],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._interval, self._ask, self._now = interval, ask, now
        self._samples: list[Sample] = []
        self._until = float("-inf")
        self._turn = threading.Lock()

    def samples(self) -> list[Sample]:
        """The answer that is kept, or a new one. Who comes while it is asked for waits for that answer."""
        with self._turn:
            began = self._now()
            if began >= self._until:
                self._samples = self._ask()
                took = self._now() - began
                self._until = began + max(self._interval, REST * took)
            return self._samples


def serve(ask: Callable[[], list[Sample]]) -> None:
    """Answer Prometheus, which shows a certificate of the cluster's authority, until somebody ends it. The
    words of the command line say where."""
    from prometheus_client import REGISTRY, start_http_server
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    words = argparse.ArgumentParser()
    for name in ("address", "certificate", "key", "authority"):
        words.add_argument(f"--{name}", required=True)
    words.add_argument("--port", type=int, required=True)
    words.add_argument("--interval", type=float, required=True)
    given = words.parse_args()
    last = LastAnswer(given.interval, ask)

    class Collector:
        """What prometheus_client asks for each scrape."""

        def describe(self) -> list[Any]:
            """Nothing: else it would ask as it starts."""
            return []

        def collect(self) -> Iterator[Any]:
            """The samples, by their names."""
            families: dict[str, Any] = {}
            for name, value, labels in last.samples():
                if name not in families:
                    keys = [key for key, _ in labels]
                    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
                    families[name] = kind(name, name.replace("_", " "), labels=keys)
                families[name].add_metric([text for _, text in labels], value)
            yield from families.values()

    REGISTRY.register(Collector())
    start_http_server(
        given.port,
        given.address,
        certfile=given.certificate,
        keyfile=given.key,
        client_cafile=given.authority,
        client_auth_required=True,
    )
    threading.Event().wait()
