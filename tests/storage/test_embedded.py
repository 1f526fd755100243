"""The embedded PostgreSQL: private, started again when it dies, and gone when nobody needs it."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from pliers_workflow.installation import opened
from pliers_workflow.storage.database import connections_allowed
from pliers_workflow.storage.embedded import EmbeddedError, EmbeddedPostgres, cluster, default_folder, find_binaries
from pliers_workflow.storage.embedded.account import Account
from pliers_workflow.storage.migrations import migrate, migrations

SYSTEM = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
#: nothing here waits for a disk; all else is as in production
FAST = {"fsync": "off", "shared_buffers": "16MB"}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that any account can reach, once it is its own."""
    with tempfile.TemporaryDirectory(prefix="pliers-test-") as parent:
        Path(parent).chmod(0o711)
        yield Path(parent) / "database"


@pytest.fixture
def server(folder: Path) -> Iterator[EmbeddedPostgres]:
    """A running server."""
    with EmbeddedPostgres(folder, settings=FAST) as server:
        yield server


@pytest.fixture(scope="module")
def calm() -> Iterator[EmbeddedPostgres]:
    """A running server that nobody kills, for looking at."""
    with tempfile.TemporaryDirectory(prefix="pliers-test-") as parent:
        Path(parent).chmod(0o711)
        with EmbeddedPostgres(Path(parent) / "database", settings=FAST) as server:
            yield server


def ask(dsn: str, query: str) -> object:
    """One value, over a connection of its own."""

    async def run() -> object:
        connection = await asyncpg.connect(dsn, timeout=10)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(run())


def until(condition: Callable[[], bool], within: float = 30) -> None:
    """Wait for another process's doing, which gives no signal to us."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_it_starts_answers_and_stops(folder: Path) -> None:
    """It answers as soon as `start` returns, is down when `stop` does, and keeps data and DSN over both."""
    server = EmbeddedPostgres(folder, settings=FAST)
    dsn = server.start()
    assert server.running
    ask(dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    process = server.report()["server"]
    server.stop()
    assert not server.running
    assert not alive(process)
    assert server.report()["state"] == "stopped"
    assert "database system is shut down" in (folder / "server.log").read_text()
    assert server.start() == dsn
    assert ask(dsn, "SELECT n FROM kept") == 7
    server.stop()


def test_its_files_are_private(calm: EmbeddedPostgres) -> None:
    """No other user can enter the folder or read a file in it, and the folders above it are as they were."""
    assert stat.S_IMODE(calm.folder.parent.stat().st_mode) == 0o711
    for path in (calm.folder, *calm.folder.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert int(str(ask(calm.dsn, "SELECT count(*) FROM pg_hba_file_rules WHERE auth_method <> 'scram-sha-256'"))) == 0


def test_it_wants_the_password(calm: EmbeddedPostgres) -> None:
    """Without the random password nobody comes in, and it is long."""
    parts = urlsplit(calm.dsn)
    assert len(parts.password or "") >= 40
    wrong = urlunsplit(parts._replace(netloc=f"{parts.username}:wrong@{parts.hostname}:{parts.port}"))
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(wrong, "SELECT 1")
    assert ask(calm.dsn, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(calm.dsn, "SHOW unix_socket_directories") == ""


def test_it_sorts_the_same_everywhere(calm: EmbeddedPostgres) -> None:
    """Text sorts by code point and knows the letters of all languages, whatever locales the machine has."""
    assert ask(calm.dsn, "SHOW server_encoding") == "UTF8"
    assert ask(calm.dsn, "SELECT 'Z' < 'a' AND upper('ä') = 'Ä'") is True


def test_a_killed_server_is_started_again(server: EmbeddedPostgres) -> None:
    """After kill -9 of the postmaster the same DSN answers again, with what was committed."""
    ask(server.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    before = server.report()
    os.kill(before["server"], signal.SIGKILL)
    until(lambda: server.report().get("restarts", 0) == 1 and server.running)
    assert server.report()["port"] == before["port"]
    assert ask(server.dsn, "SELECT n FROM kept") == 7


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_killed_supervisor_is_replaced(server: EmbeddedPostgres) -> None:
    """Without its supervisor the server shuts down, and both come back under the same DSN."""
    before = server.report()
    os.kill(before["supervisor"], signal.SIGKILL)
    until(lambda: not alive(before["server"]))
    until(lambda: server.report().get("supervisor") != before["supervisor"] and server.running)
    assert ask(server.dsn, "SELECT 7") == 7


def run_owner(folder: Path) -> tuple[subprocess.Popen[str], str]:
    """Another process that uses the server; itself and the DSN it prints."""
    owner = subprocess.Popen(
        [sys.executable, "-m", "pliers_workflow.storage.embedded", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": "src"},
    )
    assert owner.stdout is not None
    return owner, owner.stdout.readline().strip()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_its_owner(folder: Path, end: signal.Signals) -> None:
    """However its owner ends, the server is shut down cleanly."""
    owner, dsn = run_owner(folder)
    assert ask(dsn, "SELECT 7") == 7
    server = EmbeddedPostgres(folder)
    owner.send_signal(end)
    owner.wait(60)
    until(lambda: server.report().get("state") == "stopped")
    assert not alive(server.report()["server"])
    assert "database system is shut down" in (folder / "server.log").read_text()


def test_two_processes_share_it(server: EmbeddedPostgres) -> None:
    """The second user joins the first one's server; it stays up until the last of them has gone."""
    owner, dsn = run_owner(server.folder)
    assert dsn == server.dsn
    process = server.report()["server"]
    server.stop()
    assert alive(process)
    assert ask(dsn, "SELECT 7") == 7
    owner.terminate()
    owner.wait(60)
    assert not alive(process)


def test_a_stale_pid_file_is_no_obstacle(folder: Path) -> None:
    """A `postmaster.pid` left behind, whose number now belongs to some other process, does not keep it from starting."""
    server = EmbeddedPostgres(folder, settings=FAST)
    server.start()
    server.stop()
    ours = folder / "data" / "postmaster.pid"
    ours.write_text(f"{os.getpid()}\n{folder / 'data'}\n1\n5432\n\nlocalhost\n\nready\n")
    os.chown(ours, (folder / "data").stat().st_uid, (folder / "data").stat().st_gid)
    with server:
        assert ask(server.dsn, "SELECT 7") == 7


def test_another_version_s_data_is_refused(folder: Path) -> None:
    """Data of another major version is left alone, and the message says what to do."""
    server = EmbeddedPostgres(folder, settings=FAST)
    server.start()
    server.stop()
    (folder / "data" / "PG_VERSION").write_text("14\n")
    with pytest.raises(EmbeddedError, match=r"belongs to PostgreSQL 14, .* pg_dump or pg_upgrade"):
        server.start()


def test_an_open_folder_is_refused(tmp_path: Path) -> None:
    """A folder with something in it that others can enter is not made ours silently."""
    (tmp_path / "open").mkdir(mode=0o755)
    (tmp_path / "open" / "file").touch()
    with pytest.raises(EmbeddedError, match="can be entered by other users"):
        EmbeddedPostgres(tmp_path / "open").start()


def test_a_wrong_bin_folder_is_told(tmp_path: Path) -> None:
    """Programs that are not where they should be are an error with a sentence."""
    with pytest.raises(EmbeddedError, match="there is no PostgreSQL that runs in"):
        find_binaries(tmp_path)


def test_a_port_may_be_insisted_on(calm: EmbeddedPostgres) -> None:
    """A second user who insists on another port is told that the server runs already."""
    with pytest.raises(EmbeddedError, match="for somebody else"):
        EmbeddedPostgres(calm.folder, port=1).start()


def test_no_outgoing_connection_is_given_its_port(calm: EmbeddedPostgres) -> None:
    """While it is down after a crash nobody else may get the port to which it comes back."""
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if not given.exists() or given.read_text().split()[0] != "32768":
        pytest.skip("this system gives other ports to outgoing connections than Linux does by itself")
    assert (urlsplit(calm.start()).port or 0) < 32_768


def test_an_interrupted_initdb_is_done_again(folder: Path) -> None:
    """A cluster that was half made when the power went is not taken for a whole one."""
    cluster.prepare_folder(folder)
    (folder / "data.new").mkdir()
    (folder / "data.new" / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(folder, settings=FAST) as server:
        assert ask(server.dsn, "SELECT 7") == 7
    assert not (folder / "data.new").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must become somebody else")
def test_root_runs_it_as_an_account_that_exists(calm: EmbeddedPostgres) -> None:
    """As root the server runs as another user, who owns the folder, and the password file stays ours."""
    owner = Path(f"/proc/{calm.report()['server']}").stat().st_uid
    assert owner != 0
    assert (calm.folder / "data").stat().st_uid == owner
    assert (calm.folder / "password").stat().st_uid == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root must become somebody else")
def test_root_runs_it_in_a_namespace_where_accounts_cannot_come() -> None:
    """Below a folder that is root's alone the server runs in a user namespace, and no folder above is opened for it."""
    able = subprocess.run(["unshare", "--user", "--map-user=1000", "true"], check=False, capture_output=True)
    if able.returncode != 0:
        pytest.skip("user namespaces are forbidden here")
    with tempfile.TemporaryDirectory(prefix="pliers-test-") as parent:
        with EmbeddedPostgres(Path(parent) / "database", settings=FAST) as server:
            assert ask(server.dsn, "SELECT 7") == 7
            assert stat.S_IMODE(Path(parent).stat().st_mode) == 0o700
            process = server.report()["server"]
            os.kill(server.report()["supervisor"], signal.SIGKILL)
            until(lambda: not alive(process))
            until(lambda: server.report().get("server") != process and server.running)


def usable(account: Account, python: str) -> bool:
    """Whether the account can run this Python."""
    try:
        return account.run([python, "--version"]).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
def test_an_ordinary_user_runs_it(folder: Path) -> None:
    """Somebody who is not root runs it as themselves."""
    import pwd

    nobody = pwd.getpwnam("nobody")
    account = Account(name="nobody", user=nobody.pw_uid, group=nobody.pw_gid)
    program = (
        "import sys; sys.path.insert(0, 'src')\n"
        "from pliers_workflow.storage.embedded import EmbeddedPostgres\n"
        "with EmbeddedPostgres(sys.argv[1], settings={'shared_buffers': '16MB', 'fsync': 'off'}) as server: print(server.running)"
    )
    folder.mkdir(mode=0o700)
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    # Our own Python may lie where an ordinary user cannot come; the system's does as well where it is of the same version.
    for python in (sys.executable, "/usr/bin/python3"):
        reached = (
            account.run([python, "-c", "import sys; print(sys.version_info[:2])"]) if usable(account, python) else None
        )
        if reached is not None and reached.stdout.strip() == str(sys.version_info[:2]):
            break
    else:
        pytest.skip("there is no Python of this version that an ordinary user can run")
    answer = subprocess.run(
        [python, "-c", program, str(folder)],
        user=account.user,
        group=account.group,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if "site-packages" in path),
        },
    )
    assert answer.stdout.strip() == "True", answer.stderr


@pytest.mark.skipif(not SYSTEM, reason="no PostgreSQL of the system's is installed")
async def test_the_system_s_programs_serve_as_well(folder: Path) -> None:
    """A bin folder of the system's runs the schema too."""
    server = EmbeddedPostgres(folder, bin_folder=SYSTEM[0], settings=FAST)
    dsn = await asyncio.to_thread(server.start)
    try:
        assert await migrate(dsn) == [migration.name for migration in migrations()]
    finally:
        await asyncio.to_thread(server.stop)


def test_the_data_lies_where_it_is_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """`PLIERS_HOME`, else the user's data folder as XDG has it."""
    monkeypatch.setenv("PLIERS_HOME", "/srv/pliers")
    assert default_folder() == Path("/srv/pliers/database")
    monkeypatch.delenv("PLIERS_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_folder() == Path("/data/pliers/database")
    monkeypatch.delenv("XDG_DATA_HOME")
    assert default_folder() == Path("~/.local/share/pliers/database").expanduser()


async def test_it_is_started_with_enough_connections_for_all_who_are_to_use_it(folder: Path) -> None:
    """Whoever opens it for many nodes finds as many connections as they take, and some beside."""
    async with opened(folder, connections=150) as dsn:
        assert await connections_allowed(dsn) > 150
