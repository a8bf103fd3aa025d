"""A real MariaDB in a folder and on a port of its own."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pymysql
import pytest

from tests.support.listeners import free_ports
from tests.support.processes import wait_for

USER = "reader"
PASSWORD = "p@ss word:1"

_SERVERS = ("/usr/sbin/mariadbd", "/usr/local/sbin/mariadbd")


class MariaDb:
    """One server; ``stop`` and ``start`` take it down and bring it up again on the same port.

    If the tests run as root, it runs as another user, who must have access to ``folder``; pytest's own folders do not
    allow that.
    """

    def __init__(self, folder: Path) -> None:
        self._program = shutil.which("mariadbd") or next((name for name in _SERVERS if Path(name).exists()), "")
        self._installer = shutil.which("mariadb-install-db")
        if not self._program or not self._installer:
            pytest.skip("this machine lacks mariadbd")
        self._folder = folder
        self._data = folder / "data"
        self.port = free_ports(1)[0]
        # MariaDB refuses to run as root.
        self._user = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
        self._process: subprocess.Popen[bytes] | None = None

    def install(self) -> None:
        """Create an empty server with a user who has all rights in the database ``helpdesk``."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            shutil.chown(self._folder, self._user)
        done = subprocess.run(
            [
                str(self._installer),
                "--no-defaults",
                f"--datadir={self._data}",
                f"--user={self._user}",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        self.start()
        with self.connect("root", "", None) as root:
            root.execute("CREATE DATABASE helpdesk CHARACTER SET utf8mb4")
            root.execute(f"CREATE USER {USER}@'%' IDENTIFIED BY '{PASSWORD}'")
            root.execute(f"GRANT ALL ON helpdesk.* TO {USER}@'%'")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with (self._folder / "mariadbd.log").open("ab") as log:
            self._process = self._popen(log)

        def answers() -> bool:
            with suppress(pymysql.Error):
                pymysql.connect(host="127.0.0.1", port=self.port, user="root").close()
                return True
            return False

        wait_for(answers, 60, "MariaDB")

    def _popen(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                self._program,
                "--no-defaults",
                f"--datadir={self._data}",
                f"--user={self._user}",
                f"--port={self.port}",
                "--bind-address=127.0.0.1",
                # The path of a socket may have at most 107 characters, so it is not in the folder.
                f"--socket=/tmp/mariadb-{self.port}.sock",
                f"--pid-file={self._data}/pid",
                "--skip-name-resolve",
                "--innodb-flush-log-at-trx-commit=2",
                "--innodb-buffer-pool-size=128M",
            ],
            stdout=log,
            stderr=log,
        )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the server."""
        assert self._process
        self._process.send_signal(how)
        self._process.wait(60)

    @contextmanager
    def connect(self, user: str = USER, password: str = PASSWORD, database: str | None = "helpdesk") -> Iterator[Any]:
        """Open a connection that commits each statement; yield its cursor."""
        connection = pymysql.connect(
            host="127.0.0.1", port=self.port, user=user, password=password, database=database, autocommit=True
        )
        try:
            yield connection.cursor()
        finally:
            connection.close()

    def run(self, *statements: str) -> None:
        """Run statements as the user of the database."""
        with self.connect() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def insert(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        """Add rows to a table."""
        with self.connect() as cursor:
            cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(rows[0]))})", rows)

    @property
    def url(self) -> str:
        """The source, as a user types it, without the password."""
        return f"mysql://{USER}@127.0.0.1:{self.port}/helpdesk"
