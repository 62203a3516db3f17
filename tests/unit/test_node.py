"""How a node ends when something happens that nobody thought of."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raftkv import node
from raftkv.cluster_files import write_cluster
from raftkv.config import Config
from raftkv.settings import load_config
from tests.free_ports import free_base_port
from tests.tools import require_tool

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    files = write_cluster(tmp_path, base_port=free_base_port())
    return load_config(files.configs[0]).config


@pytest.fixture(autouse=True)
def quiet_root() -> Iterator[None]:
    """Take down the handler that a node sets up."""
    root = logging.getLogger()
    before = list(root.handlers)
    level = root.level
    yield
    for handler in [one for one in root.handlers if one not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


def test_a_defect_at_the_start_is_an_internal_stop_and_is_told(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def defect(*_: object, **__: object) -> None:
        raise RuntimeError("never thought of")

    monkeypatch.setattr(node, "recover", defect)
    assert node.run(config) == node.EXIT_INTERNAL
    line = capsys.readouterr().err
    assert "CRITICAL internal_error" in line
    assert "never thought of" in line


def test_the_collector_knows_nothing_of_what_was_loaded_when_the_first_turn_comes(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn that applies much lets the collector look at what is new: 180 ms of a million keys."""
    recover = node.recover
    loaded: list[list[int]] = []
    known: list[int] = []

    def recover_much(*arguments: Any, **named: Any) -> Any:
        loaded.extend([number] for number in range(100_000))
        return recover(*arguments, **named)

    async def look_and_end(_: node.Node) -> None:
        known.append(len(gc.get_objects(0)))
        raise OSError("enough")

    monkeypatch.setattr(node, "recover", recover_much)
    monkeypatch.setattr(node.Node, "_make_admin", look_and_end)
    try:
        assert node.run(config) == node.EXIT_IN_USE
    finally:
        gc.unfreeze()
    assert known[0] < len(loaded) / 2
    assert gc.isenabled()


# Prints how many certificates any context has, once the packages of the admin server are loaded.
_COUNT_CERTIFICATES = """
import gc, ssl, sys
from raftkv import node
from raftkv.settings import load_config

make_admin = node.Node._make_admin

async def make_and_end(self):
    await make_admin(self)
    contexts = [one for one in gc.get_objects() if isinstance(one, ssl.SSLContext)]
    print(len(contexts), sum(one.cert_store_stats()["x509"] for one in contexts))
    raise OSError("enough")

node.Node._make_admin = make_and_end
node.run(load_config(sys.argv[1]).config)
print(len(ssl.create_default_context().get_ca_certs()))
"""


def test_a_node_reads_no_certificates_of_the_system(tmp_path: Path) -> None:
    """aiohttp does so when it is loaded, 45 ms in which a node that serves already is deaf."""
    config = write_cluster(tmp_path, base_port=free_base_port()).configs[0]
    certificate = tmp_path / "certificate.pem"
    openssl = require_tool("openssl")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=authority",
         "-keyout", str(tmp_path / "key.pem"), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "SSL_CERT_FILE": str(certificate),
        "SSL_CERT_DIR": str(tmp_path / "none"),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", _COUNT_CERTIFICATES, str(config)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "address_in_use reason=enough" in done.stderr
    at_load, afterwards = done.stdout.splitlines()
    contexts, certificates = map(int, at_load.split())
    assert contexts > 0
    assert certificates == 0
    assert afterwards == "1"
