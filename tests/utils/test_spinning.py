import os

from adain.utils.spinning import limit_spinning


def test_waiting_threads_sleep_soon_unless_the_environment_says_otherwise(monkeypatch):
    for environment, expected in (
        ({}, "10000"),
        ({"GOMP_SPINCOUNT": "5"}, "5"),
        ({"OMP_WAIT_POLICY": "active"}, None),
    ):
        for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        limit_spinning()
        assert os.environ.get("GOMP_SPINCOUNT") == expected
