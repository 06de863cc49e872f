"""
How a metric is declared: its name, what it says, its labels, and the values that these have from the start.

One declaration is all that there is of a metric: what a scrape shows and what `docs/metrics.md` lists are made from it.
"""

import itertools
import math
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Metric
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Labels = Mapping[str, Collection[str]]
"""
By a label's name, the values that it has from the start; none where they are only known later.

A counter that is alerted on has to be there before it counts: from nothing to 1 is no rise to Prometheus.
"""

Samples = Iterable[tuple[tuple[str, ...], tuple[float, ...]]]
"""Values of labels, and what the gauges say that go with them; NaN where one says nothing."""


class Declared(NamedTuple):
    """
    A metric as a reader knows it.

    Attributes:
        name: As it is scraped, without the endings of a histogram.
        kind: `counter`, `gauge`, `histogram` or `info`.
        labels: Their names.
        sentence: What it says.
    """

    name: str
    kind: str
    labels: tuple[str, ...]
    sentence: str


class Sheet:
    """The metrics of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.declared: list[Declared] = []

    def counter(self, name: str, sentence: str, labels: Labels | None = None) -> Counter:
        """Declare a counter; its name ends with `_total`."""
        counter = Counter(name, sentence, tuple(labels or ()), registry=self.registry)
        _begin(counter, labels)
        self._declare(name, "counter", labels, sentence)
        return counter

    def gauge(self, name: str, sentence: str, labels: Labels | None = None) -> Gauge:
        """Declare a gauge."""
        gauge = Gauge(name, sentence, tuple(labels or ()), registry=self.registry)
        _begin(gauge, labels)
        self._declare(name, "gauge", labels, sentence)
        return gauge

    def histogram(self, name: str, sentence: str, buckets: Sequence[float], labels: Labels | None = None) -> Histogram:
        """Declare a histogram of values that come one at a time."""
        histogram = Histogram(name, sentence, tuple(labels or ()), buckets=buckets, registry=self.registry)
        _begin(histogram, labels)
        self._declare(name, "histogram", labels, sentence)
        return histogram

    def spread(self, name: str, sentence: str, buckets: Sequence[float]) -> "Spread":
        """Declare a histogram of values that come many at a time."""
        spread = Spread(name, sentence, buckets)
        self.registry.register(spread)
        self._declare(name, "histogram", None, sentence)
        return spread

    def info(self, name: str, sentence: str, values: Mapping[str, str]) -> None:
        """Declare what never changes while the process runs; its name ends with `_info`."""
        Info(name.removesuffix("_info"), sentence, registry=self.registry).info(dict(values))
        self._declare(name, "info", dict.fromkeys(values, ()), sentence)

    def read(self, sentences: Mapping[str, str], labels: Sequence[str], read: Callable[[], Samples]) -> None:
        """
        Declare gauges that are looked up together when somebody scrapes.

        Args:
            sentences: By their names, what they say.
            labels: Names of the labels that they share.
            read: Returns the values now; called on the thread that answers.
        """
        self.registry.register(_Read(sentences, labels, read))
        for name, sentence in sentences.items():
            self._declare(name, "gauge", dict.fromkeys(labels, ()), sentence)

    def _declare(self, name: str, kind: str, labels: Labels | None, sentence: str) -> None:
        self.declared.append(Declared(name, kind, tuple(labels or ()), sentence))


def _begin(metric: Counter | Gauge | Histogram, labels: Labels | None) -> None:
    """Show what is known from the start, at 0."""
    for values in itertools.product(*labels.values()) if labels else ():
        metric.labels(*values)


class _Read(Collector):
    """Gauges that are looked up together; see `Sheet.read`."""

    def __init__(self, sentences: Mapping[str, str], labels: Sequence[str], read: Callable[[], Samples]) -> None:
        self._sentences = sentences
        self._labels = labels
        self._read = read

    def describe(self) -> list[GaugeMetricFamily]:
        """Return the gauges without values: nothing is looked up before somebody asks."""
        return [GaugeMetricFamily(name, sentence, labels=self._labels) for name, sentence in self._sentences.items()]

    def collect(self) -> list[GaugeMetricFamily]:
        """Return the values now."""
        gauges = self.describe()
        for labels, values in self._read():
            for gauge, value in zip(gauges, values, strict=True):
                if not math.isnan(value):
                    gauge.add_metric(labels, value)
        return gauges


class Spread(Collector):
    """
    A histogram that takes many values at once: one by one they cost a hundred times as much.

    Args:
        name: Of the metric.
        sentence: What it says.
        buckets: Upper ends, rising; one without an end is added.
    """

    def __init__(self, name: str, sentence: str, buckets: Sequence[float]) -> None:
        self._name = name
        self._sentence = sentence
        self._ends = np.array(buckets, np.float64)
        self._counts = np.zeros(len(buckets) + 1, np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()

    def add(self, values: NDArray[np.float64]) -> None:
        """Take values, `(N,)`."""
        if not len(values):
            return
        counts = np.bincount(self._ends.searchsorted(values), minlength=len(self._counts))
        total = float(values.sum())
        with self._lock:
            self._counts += counts
            self._sum += total

    def describe(self) -> Iterable[Metric]:
        """Return the metric without values."""
        return [HistogramMetricFamily(self._name, self._sentence)]

    def collect(self) -> Iterable[Metric]:
        """Return the counts of values up to each end."""
        with self._lock:
            up_to, total = self._counts.cumsum().tolist(), self._sum
        ends = [*map(floatToGoString, self._ends.tolist()), "+Inf"]
        family = HistogramMetricFamily(self._name, self._sentence)
        family.add_metric((), list(zip(ends, up_to, strict=True)), total)
        return [family]
