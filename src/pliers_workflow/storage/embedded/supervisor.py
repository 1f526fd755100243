"""The process between us and PostgreSQL: starts it again when it dies, and stops it when nobody uses it any more.

It runs on its own, by path and with the standard library only, in a session of its own, so that Ctrl-C reaches the engine
and not the server under it. Everybody who uses the server holds a shared lock on `users.lock`; the kernel drops it when
they end, by whatever end. As soon as this process gets that lock for itself, nobody is left: it stops the server (a fast,
clean shutdown) and ends. If this process is killed, Linux sends the server the same order to shut down; elsewhere the
next start finds it by its process id and stops it.

    python -I -S supervisor.py < CONFIG.json
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

#: seconds between two looks at the server and its users
PULSE = 0.1
#: seconds after which a server counts as running well, and an earlier crash is forgotten
WELL = 30.0
#: how often a server may fail in a row before it is given up
FAILURES_MAX = 8
#: seconds that a fast shutdown may take before it is made an immediate one
STOP_WITHIN = 60.0
LOG_MAX = 20_000_000
PR_SET_PDEATHSIG = 1


class Supervisor:
    """See the module."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.folder: str = config["folder"]
        self.data = os.path.join(self.folder, "data")
        self.port: int = config["port"] or 0
        self.server: subprocess.Popen[bytes] | None = None
        self.stopping = False
        self.failures = 0
        self.restarts = 0
        self.locks: list[int] = []

    def run(self) -> int:
        """Supervise until nobody uses the server; the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.on_signal)
        if not self.lock("supervisor.lock", 10):
            return 0  # somebody else supervises already
        try:
            self.clear_the_way()
            while not self.stopping:
                started_at = time.monotonic()
                if not self.start():
                    return self.give_up()
                self.watch()
                if not self.stopping:
                    self.recover(time.monotonic() - started_at)
            self.stop()
        except Exception as error:
            self.say("failed", f"{type(error).__name__}: {error}")
            self.stop()
            raise
        self.say("stopped")
        return 0

    def on_signal(self, number: int, frame: object) -> None:
        self.stopping = True

    def lock(self, name: str, timeout: float) -> bool:
        fd = os.open(os.path.join(self.folder, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(fd)
                    return False
                time.sleep(0.02)
            else:
                self.locks.append(fd)  # held until this process ends
                return True

    def start(self) -> bool:
        """Start the server and wait until it says that it is ready; false: it has failed too often."""
        while self.failures < FAILURES_MAX and not self.stopping:
            self.port = self.choose_port()
            self.say("starting")
            self.launch()
            if self.becomes_ready():
                self.say("ready")
                return True
            self.failures += 1
            time.sleep(min(0.1 * 2**self.failures, 5))
        return self.stopping

    def launch(self) -> None:
        settings = dict(self.config["settings"], port=str(self.port))
        arguments = [*self.config["command"], self.config["postgres"], "-D", self.data]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        self.rotate_log()
        extra: dict[str, Any] = {}
        if self.config["user"] is not None:
            extra = {"user": self.config["user"], "group": self.config["group"], "extra_groups": []}
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            # This process has one thread, so preparing the child in Python is safe.
            self.server = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=self.config["environment"],
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - see above
                **extra,
            )
        finally:
            os.close(log)

    def becomes_ready(self) -> bool:
        """Recovery after a crash may take long; as long as the process lives, it is waited for."""
        assert self.server is not None
        while not self.stopping:
            if self.server.poll() is not None:
                return False
            lines = self.pid_file()
            if len(lines) >= 8 and lines[0].strip() == str(self.server.pid) and lines[7].strip() == "ready":
                return True
            time.sleep(0.02)
        return True

    def watch(self) -> None:
        """Return when the server has died or is to stop."""
        assert self.server is not None
        while not self.stopping:
            if self.server.poll() is not None:
                return
            if self.lock("users.lock", 0):
                self.stopping = True
                return
            time.sleep(PULSE)

    def recover(self, lived: float) -> None:
        assert self.server is not None
        self.restarts += 1
        self.failures = 0 if lived >= WELL else self.failures + 1
        self.say("crashed", f"the server ended with status {self.server.returncode} and is started again")
        time.sleep(min(0.05 * 2**self.failures, 5))

    def give_up(self) -> int:
        self.say("failed", self.last_words())
        return 1

    def stop(self) -> None:
        """A fast shutdown: sessions are ended, transactions rolled back, a checkpoint is written."""
        server = self.server
        if server is None or server.poll() is not None:
            return
        for order, patience in ((signal.SIGINT, STOP_WITHIN), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
            try:
                server.send_signal(order)
                server.wait(patience)
            except subprocess.TimeoutExpired:
                continue
            except ProcessLookupError:
                pass
            return

    def clear_the_way(self) -> None:
        """Deal with a `postmaster.pid` that an earlier life has left: a server still running, or just the file."""
        lines = self.pid_file()
        if not lines or not lines[0].strip().isdigit():
            return
        pid = int(lines[0])
        if not self.is_our_server(pid):
            # Its process is gone, and the number may belong to another one by now, which would keep PostgreSQL from starting.
            os.unlink(os.path.join(self.data, "postmaster.pid"))
            return
        if pid != self.config["previous"]:
            raise RuntimeError(f"a PostgreSQL that we did not start runs on {self.data} (process {pid}); stop it first")
        os.kill(pid, signal.SIGINT)
        deadline = time.monotonic() + STOP_WITHIN
        while self.is_our_server(pid) and time.monotonic() < deadline:
            time.sleep(0.05)

    def is_our_server(self, pid: int) -> bool:
        return self.data in self.command_line(pid)

    @staticmethod
    def command_line(pid: int) -> str:
        """The command line of a process; empty when it has ended."""
        if os.path.isdir("/proc/self"):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    return file.read().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                return ""
        ps = ["ps", "-ww", "-p", str(pid), "-o", "command="]
        return subprocess.run(ps, capture_output=True, text=True, check=False, errors="replace").stdout

    def pid_file(self) -> list[str]:
        try:
            with open(os.path.join(self.data, "postmaster.pid")) as file:
                return file.read().splitlines()
        except OSError:
            return []

    def choose_port(self) -> int:
        """The port of the last time, so that a DSN stays good; another one when that is taken and nobody insists."""
        if self.config["port"] is not None or (self.port and self.restarts):
            return self.port
        last = self.port or self.config["previous_port"]
        for candidate in [last, *self.config["ports"]] if last else self.config["ports"]:
            probe = socket.socket()
            try:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", candidate))
                return int(probe.getsockname()[1])
            except OSError:
                continue
            finally:
                probe.close()
        raise RuntimeError("no port is free on 127.0.0.1")

    @property
    def log(self) -> str:
        return os.path.join(self.folder, "server.log")

    def rotate_log(self) -> None:
        try:
            if os.path.getsize(self.log) > LOG_MAX:
                os.replace(self.log, self.log + ".1")
        except OSError:
            pass

    def last_words(self) -> str:
        try:
            with open(self.log, "rb") as file:
                file.seek(max(0, os.path.getsize(self.log) - 1500))
                return file.read().decode(errors="replace").strip()
        except OSError:
            return "it left no log"

    def say(self, state: str, message: str = "") -> None:
        """Write what everybody who waits for us reads; replaced whole, so nobody reads half of it."""
        path = os.path.join(self.folder, "server.json")
        report = {
            "state": state,
            "message": message,
            "supervisor": os.getpid(),
            "server": self.server.pid if self.server is not None else None,
            "port": self.port,
            "restarts": self.restarts,
        }
        fd = os.open(path + ".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            json.dump(report, file)
        os.replace(path + ".new", path)


def die_with_parent() -> None:
    """Ask Linux to send this process a SIGINT (PostgreSQL: fast shutdown) when its parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)


if __name__ == "__main__":
    sys.exit(Supervisor(json.load(sys.stdin)).run())
