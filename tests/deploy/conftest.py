import pytest

from adain.deploy.web.service import StylizeService


@pytest.fixture
def service(tmp_path, monkeypatch):
    """A service with a small limit of pixels, whose files are in the folder of the test."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    service = StylizeService(tmp_path / "cache", "cpu", 10_000)
    yield service
    service.close()
