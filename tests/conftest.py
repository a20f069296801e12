"""Shared by every test: one thread, a fixed hypothesis profile, no network, the golden folder."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

from places import DATA, GOLDEN

torch.set_num_threads(1)  # tests run in parallel processes; oversubscribed threads are several times slower

hypothesis.settings.register_profile(
    "nexvar",
    deadline=None,
    max_examples=25,
    derandomize=bool(os.environ.get("CI")),  # a red CI run is then the change's fault
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture],
)
hypothesis.settings.load_profile("nexvar")


@pytest.fixture(scope="session")
def golden() -> Path:
    """``tests/golden``: one folder per reference model, made with the original code (see their READMEs)."""
    return GOLDEN


@pytest.fixture(scope="session")
def data() -> Path:
    """``tests/data``: small real inputs (``docs/data.md`` credits them)."""
    return DATA


def _is_loopback(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket's path
    host = address[0]
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Refuse, in this process, every connection and look-up that would leave the machine."""

    def guarded(original: Any) -> Any:
        def call(self: socket.socket, address: Any) -> Any:
            if not _is_loopback(address):
                raise OSError(f"a test tried to reach {address!r}; tests run without a network")
            return original(self, address)

        return call

    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host is not None and not _is_loopback((host,)):
            raise OSError(f"a test tried to look up {host!r}; tests run without a network")
        return look_up(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
        patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield
