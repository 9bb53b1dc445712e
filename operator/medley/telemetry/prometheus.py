"""Samples of a service from Prometheus.

Traps that shape this file (all measured, reference: metrics-and-workloads.md §4): an absent series is an empty list and
not 0; NaN comes as a string with HTTP 200; a failed scrape makes gauges vanish at once while rate() decays for the
whole window and would look like falling demand, so a replica counts only while its gauges are there; rate first, then
sum.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from prometheus_api_client import PrometheusConnect
from prometheus_api_client.exceptions import PrometheusApiClientException
from requests import RequestException, Session
from urllib3.util.retry import Retry

from medley.model.objects import ServiceKey, Slo
from medley.model.samples import HistogramRate, LatencySample, ReplicaSample, ServiceSamples

Row = tuple[dict[str, str], float]
"""Labels and value of one series of an instant query."""


_FAULTS = (RequestException, PrometheusApiClientException, ValueError, KeyError)


class PrometheusSource:
    """A `MetricsSource` on one Prometheus.

    Args:
        url: base address.
        window_s: range of the rates; at least four scrape intervals.
        timeout_s: of each query.
        subquery_step_s: resolution at which the age of samples is seen.
    """

    def __init__(
        self, url: str, *, window_s: float = 120.0, timeout_s: float = 5.0, subquery_step_s: float = 5.0
    ) -> None:
        self._window_s = window_s
        self._step_s = subquery_step_s
        session = Session()
        # Proxy variables of the environment are for the internet, not for a Prometheus beside us.
        session.trust_env = False
        # The client's default retries block for 6 to 14 s; the next planning cycle is the retry.
        self._client = PrometheusConnect(url=url, retry=Retry(total=0), timeout=timeout_s, session=session)

    def sample(self, service: ServiceKey, slo: Slo, replicas: Sequence[str]) -> ServiceSamples:
        """Rates of the given replicas (pod names); a failing Prometheus is a fault."""
        if not replicas:
            return ServiceSamples(service, self._window_s)
        try:
            return self._sample(service, slo, replicas)
        except _FAULTS as error:
            return ServiceSamples(service, self._window_s, fault=_no_answer(error))

    def fault(self) -> str:
        """Why it cannot be asked; empty if it can."""
        try:
            self._query("vector(1)")
        except _FAULTS as error:
            return _no_answer(error)
        return ""

    def _sample(self, service: ServiceKey, slo: Slo, replicas: Sequence[str]) -> ServiceSamples:
        pods = "|".join(re.escape(name).replace("\\", "\\\\") for name in sorted(replicas))
        of = f'namespace="{service.namespace}",pod=~"{pods}"'
        w = f"{self._window_s:.0f}s"
        step = f"{self._step_s:.0f}s"
        prompt = self._histograms("vllm:request_prompt_tokens", of, w)
        generation = self._histograms("vllm:request_generation_tokens", of, w)
        started = self._by_pod(f"sum by (pod) (rate(vllm:time_to_first_token_seconds_count{{{of}}}[{w}]))")
        running = self._by_pod(f"sum by (pod) (vllm:num_requests_running{{{of}}})")
        waiting = self._by_pod(f"sum by (pod) (vllm:num_requests_waiting{{{of}}})")
        growth = self._by_pod(f"sum by (pod) (deriv(vllm:num_requests_waiting{{{of}}}[{w}]))")
        age = self._by_pod(
            f"time() - max by (pod) (max_over_time(timestamp(vllm:num_requests_running{{{of}}})[{w}:{step}]))"
        )
        samples = []
        for pod in sorted(replicas):
            fault = "" if pod in running else "the last scrape failed, or nothing scrapes it"
            samples.append(
                ReplicaSample(
                    replica=pod,
                    variant="",
                    age_s=age.get(pod),
                    prompt=prompt.get(pod),
                    generation=generation.get(pod),
                    started_rps=started.get(pod),
                    running=running.get(pod),
                    waiting=waiting.get(pod),
                    waiting_growth_rps=growth.get(pod),
                    fault=fault,
                )
            )
        q = slo.percentile / 100.0
        latency = LatencySample(
            ttft_ms=self._quantile_ms("vllm:time_to_first_token_seconds", of, w, q),
            tpot_ms=self._quantile_ms("vllm:request_time_per_output_token_seconds", of, w, q),
        )
        return ServiceSamples(service, self._window_s, tuple(samples), latency)

    def _query(self, promql: str) -> list[Row]:
        answer: list[dict[str, Any]] = self._client.custom_query(promql)
        return [(series["metric"], float(series["value"][1])) for series in answer]

    def _by_pod(self, promql: str) -> dict[str, float]:
        return {labels["pod"]: value for labels, value in self._query(promql)}

    def _histograms(self, metric: str, of: str, window: str) -> dict[str, HistogramRate]:
        """Cumulative bucket rates per pod, cut into cells."""
        sums = self._by_pod(f"sum by (pod) (rate({metric}_sum{{{of}}}[{window}]))")
        cumulative: dict[str, list[tuple[float, float]]] = {}
        for labels, value in self._query(f"sum by (pod, le) (rate({metric}_bucket{{{of}}}[{window}]))"):
            cumulative.setdefault(labels["pod"], []).append((float(labels["le"]), value))
        return {pod: _cells(rows, sums[pod]) for pod, rows in cumulative.items() if pod in sums}

    def _quantile_ms(self, metric: str, of: str, window: str, quantile: float) -> float | None:
        rows = self._query(f"histogram_quantile({quantile}, sum by (le) (rate({metric}_bucket{{{of}}}[{window}])))")
        value = rows[0][1] * 1000.0 if rows else math.nan
        return value if math.isfinite(value) else None


def _cells(rows: list[tuple[float, float]], tokens_per_s: float) -> HistogramRate:
    """Rates per cell; a NaN stays one, so that the estimate can name it."""
    edges, rates = [], []
    below = 0.0
    for edge, value in sorted(rows):
        edges.append(edge)
        # rate() extrapolates each series by itself: cumulative counts may disagree in the last digits.
        rates.append(value - below if math.isnan(value) or value > below + 1e-12 else 0.0)
        below = value if math.isnan(value) else max(below, value)
    return HistogramRate(tuple(edges), tuple(rates), tokens_per_s)


def _no_answer(error: Exception) -> str:
    return f"Prometheus does not answer: {_short(error)}"


def _short(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return text if len(text) <= 160 else text[:157] + "..."
