"""The models that the tests ask: a real one, and a mock of one."""

import os

from . import mock_server, model_server


def serve(place):
    """Give the tests a real model at LLM_TEST_API_BASE, and a mock at LLM_TEST_MOCK_BASE."""
    server = model_server.ModelServer(place.folder).start()
    os.environ["LLM_TEST_API_BASE"] = server.endpoint["api_base"]
    os.environ["LLM_TEST_MODEL"] = server.endpoint["model"]
    mock = mock_server.MockServer(place.folder).start()
    os.environ["LLM_TEST_MOCK_BASE"] = mock.endpoint["api_base"]
