"""What is handed over once a second."""

import gevent
import pytest
from prometheus_client import CollectorRegistry

from gateway.usage.metrics import Metrics
from gateway.usage.sampler import PERIOD_S, Sampler


class Crowd:
    """A number of requests that the test sets."""

    size = 0

    def __call__(self):
        return self.size


@pytest.fixture
def crowd():
    """How many requests are carried."""
    return Crowd()


@pytest.fixture
def metrics():
    """Metrics of their own registry."""
    return Metrics(CollectorRegistry())


@pytest.fixture
def sampler(metrics, crowd):
    """A sampler that is stopped at the end."""
    return Sampler(metrics, crowd)


def test_a_sample_copies_the_crowd_and_hands_the_counts_over(sampler, metrics, crowd):
    crowd.size = 3
    metrics.count("gateway_clients_gone_total")

    sampler.sample()

    assert metrics.registry.get_sample_value("gateway_in_flight_requests") == 3
    assert metrics.registry.get_sample_value("gateway_clients_gone_total") == 1


def test_it_samples_in_the_background_until_it_is_stopped(sampler, metrics, crowd):
    crowd.size = 2

    sampler.start()
    gevent.sleep(0)
    in_between = metrics.registry.get_sample_value("gateway_in_flight_requests")
    crowd.size = 7
    sampler.stop()
    gevent.sleep(0)

    assert in_between == 2
    assert sampler._greenlet.dead


def test_stopping_hands_over_what_was_counted_last(sampler, metrics):
    sampler.start()
    gevent.sleep(0)
    metrics.count("gateway_clients_gone_total")

    sampler.stop()

    assert metrics.registry.get_sample_value("gateway_clients_gone_total") == 1


def test_a_killed_worker_loses_at_most_a_second_of_counts():
    assert PERIOD_S <= 1
