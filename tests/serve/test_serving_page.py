"""docs/serving.md: every curl command of it is run, against a server on this machine."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import threading
import time

import pytest
import uvicorn

from nexvar.serve.app import build
from nexvar.weights.load import load
from places import ROOT
from served import make_server

BLOCKS = re.findall(
    r"^```(?:bash|sh)?\n(.*?)^```", (ROOT / "docs" / "serving.md").read_text(), re.MULTILINE | re.DOTALL
)
COMMANDS = [
    line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.lstrip().startswith("curl ")
]


@pytest.fixture(scope="module")
def address():
    config = uvicorn.Config(build(make_server([load("nexvar_mito", device="cpu")])), port=0, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
@pytest.mark.parametrize("command", COMMANDS)
def test_a_documented_request_is_answered(address, command):
    words = shlex.split(command.replace("localhost:8000", address))
    ran = subprocess.run([words[0], "--fail-with-body", *words[1:]], capture_output=True, timeout=60)
    assert ran.returncode == 0 and ran.stdout, ran.stdout[:500]
