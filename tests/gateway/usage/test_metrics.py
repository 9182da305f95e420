"""The metrics: one table, added up over all workers, its series bounded."""

import os
import subprocess
import sys

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.parser import text_string_to_metric_families

from gateway import __version__
from gateway.usage.metrics import TABLE, Metrics


@pytest.fixture
def metrics():
    """Metrics of their own registry."""
    return Metrics(CollectorRegistry())


def samples_of(text):
    """Return every sample of a Prometheus text by its name and labels, these by their names."""
    return {
        (sample.name, *[value for _, value in sorted(sample.labels.items())]): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.name)
def test_every_metric_is_named_by_the_house_rule(row):
    unit = {Counter: "_total", Histogram: "_seconds"}.get(row.kind, "")

    assert row.name.startswith("gateway_")
    assert row.name.endswith(unit)
    assert row.help.endswith(".")


def test_every_declared_name_stands_in_the_text(metrics):
    text = metrics.text().decode()

    for row in TABLE:
        assert f"# HELP {row.name} {row.help}\n" in text


def test_counts_and_observations_add_up(metrics):
    for status in ("200", "200", "404"):
        metrics.count("gateway_requests_total", "/v1/models", status)
    metrics.count("gateway_tokens_total", "mock", "input", by=7)
    metrics.observe("gateway_request_latency_seconds", 0.003, "/v1/models")
    metrics.observe("gateway_request_latency_seconds", 42.0, "/v1/models")

    samples = samples_of(metrics.text())

    assert samples["gateway_requests_total", "/v1/models", "200"] == 2
    assert samples["gateway_requests_total", "/v1/models", "404"] == 1
    assert samples["gateway_tokens_total", "input", "mock"] == 7
    assert samples["gateway_request_latency_seconds_sum", "/v1/models"] == pytest.approx(42.003)
    assert samples["gateway_request_latency_seconds_count", "/v1/models"] == 2
    assert samples["gateway_request_latency_seconds_bucket", "0.005", "/v1/models"] == 1
    assert samples["gateway_request_latency_seconds_bucket", "60.0", "/v1/models"] == 2


def test_reading_the_text_twice_counts_nothing_twice(metrics):
    metrics.count("gateway_clients_gone_total")

    assert metrics.text() == metrics.text()
    assert samples_of(metrics.text())["gateway_clients_gone_total",] == 1


def test_a_gauge_has_its_last_value(metrics):
    metrics.set("gateway_in_flight_requests", 5)
    metrics.set("gateway_in_flight_requests", 2)

    assert samples_of(metrics.text())["gateway_in_flight_requests",] == 2


def test_the_version_is_a_label_of_the_build(metrics):
    assert samples_of(metrics.text())["gateway_build_info", __version__] == 1


def test_a_name_that_is_not_in_the_table_is_refused(metrics):
    with pytest.raises(KeyError):
        metrics.count("gateway_surprise_total")


def test_labels_that_the_table_does_not_name_are_refused(metrics):
    metrics.count("gateway_requests_total", "/v1/models")

    with pytest.raises(ValueError, match="label"):
        metrics.flush()


def test_two_applications_count_apart():
    one, other = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())

    one.count("gateway_clients_gone_total")

    assert samples_of(other.text())["gateway_clients_gone_total",] == 0


@pytest.mark.T(56)
def test_callers_cannot_make_series(client, headers, app):
    """Paths, models, keys and request ids of a caller's choice leave the series of one of each."""

    def ask(number):
        more = {"X-Request-Id": f"id-{number}", "X-Backend": f"b{number}"}
        client.get(f"/nowhere/{number}", headers=headers)
        client.get(f"/v1/models/m{number}", headers=headers)
        client.get("/v1/models", headers={"Authorization": f"Bearer k{number}"})
        client.open("/health", method=f"BREW{number}")
        body = {"model": f"m{number}", "messages": [{"role": "user", "content": "x"}]}
        client.post("/v1/chat/completions", headers={**headers, **more}, json=body)
        client.post(
            "/v1/chat/completions", headers=headers, json={**body, "model": f"mock:m{number}"}
        )
        client.post("/v1/chat/completions", headers=headers, json={**body, "n": number})

    def series():
        return set(samples_of(client.get("/metrics", headers=headers).data))

    series()
    ask(1)
    after_one = series()
    for number in range(2, 12):
        ask(number)

    assert series() == after_one


WORKER = """
import os
from gateway.usage.metrics import Metrics
metrics = Metrics()
child = os.fork()
metrics.count("gateway_tokens_total", "mock", "input", by=1 if child else 10)
metrics.observe("gateway_upstream_latency_seconds", 0.2, "mock")
metrics.set("gateway_in_flight_requests", 2 if child else 3)
metrics.flush()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
print(metrics.text().decode())
"""


def test_a_scrape_adds_up_what_all_workers_counted(tmp_path):
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}  # noqa: TID251
    command = [sys.executable, "-c", WORKER]

    done = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=60)

    samples = samples_of(done.stdout)
    assert samples["gateway_tokens_total", "input", "mock"] == 11
    assert samples["gateway_upstream_latency_seconds_count", "mock"] == 2
    assert samples["gateway_in_flight_requests",] == 5
