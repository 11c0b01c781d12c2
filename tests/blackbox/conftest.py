"""Fixtures of the black-box tests. The tools themselves are in tests/support/sandboxd.py.

    daemon         shared by all tests of one worker (auth off); leave no sandboxes behind
    client         its keep-alive client
    make_daemon    make_daemon(**settings) starts a daemon of the test's own; closed at the end
    sandbox        a running Sandbox of the shared daemon; purged at the end
    make_sandbox   make_sandbox(**create_fields), purged at the end; daemon= and client= choose others
    engine         the Docker Engine API
    engine_proxy   an EngineProxy before the Engine's socket: DOCKER_HOST=engine_proxy.docker_host

Marks: quick (part of tests/run --quick), concurrent (also run under ThreadSanitizer),
drill (long; not repeated on the ASan build)."""
import os
import shutil

import pytest

import sandboxd
from engine_proxy import EngineProxy


@pytest.fixture(scope="session")
def _shared():
    d = sandboxd.Daemon()
    try:
        d.start()
        yield d
    finally:
        d.close()


@pytest.fixture
def daemon(_shared):
    if not _shared.running(): # a test before has ended it, and has failed for that
        _shared.start()
    return _shared


@pytest.fixture
def client(daemon):
    return daemon.client()


@pytest.fixture
def engine():
    return sandboxd.Engine()


@pytest.fixture
def engine_proxy():
    # Not tmp_path: a Unix socket's path must be short.
    home = sandboxd.make_dir()
    try:
        with EngineProxy(home + "/engine.sock") as p:
            yield p
    finally:
        shutil.rmtree(home)


@pytest.fixture
def make_daemon():
    made = []

    def make(start=True, **env):
        d = sandboxd.Daemon(**env)
        made.append(d)
        return d.start() if start else d

    yield make
    errors = []
    for d in reversed(made):
        try:
            d.close()
        except AssertionError as e:
            errors.append(str(e))
    assert not errors, "\n".join(errors)


@pytest.fixture
def make_sandbox(request):
    made = []

    def make(daemon=None, client=None, **fields):
        daemon = daemon or request.getfixturevalue("daemon")
        s = sandboxd.Sandbox.create(daemon, client, **fields)
        made.append(s)
        return s

    yield make
    for s in made:
        if s.daemon.running():
            s.purge(expect=(204, 404))


@pytest.fixture
def sandbox(make_sandbox):
    return make_sandbox()


@pytest.fixture(autouse=True)
def _daemons_are_well():
    """Fails the test in which a daemon crashed or a sanitizer reported."""
    yield
    for d in list(sandboxd._all_daemons):
        d.check()


def pytest_report_header(config):
    return f"sandboxd: {os.path.relpath(sandboxd.BINARY)}, deadlines x {sandboxd.SLOW:g}"
