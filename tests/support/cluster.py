"""A standalone Spark cluster on this machine: a master, and workers with one core each."""

import json
import re
import urllib.request
from pathlib import Path
from typing import Any

from processor.jvm import SPARK_FLAGS, pyspark_folder
from runtime.java.jdk import java_executable
from tests.support.listeners import free_ports
from tests.support.processes import Processes, Running, wait_for

_HOST = ("--host", "127.0.0.1", "--webui-port", "0")


class Cluster:
    """The cluster. Its master uses the same port each time it is started."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self._processes = processes
        self._folder = folder
        (self._port,) = free_ports(1)
        self._workers = 0
        self.address = f"spark://127.0.0.1:{self._port}"
        self.page = ""

    def start_master(self) -> Running:
        """Start the master and return it once it listens."""
        master = self._start("master.Master", *_HOST, "--port", str(self._port))
        told = re.compile(r"Starting Spark master at spark://[\s\S]*MasterWebUI to \S+, and started at (\S+)")
        self.page = wait_for(lambda: told.findall(master.stderr), 60, "a master")[0]
        return master

    def start_worker(self) -> Running:
        """Start another worker as the leader of a process group, and return it once the master has registered it."""
        self._workers += 1
        work = ("--cores", "1", "--memory", "1g", "--work-dir", str(self._folder / f"work-{self._workers}"))
        worker = self._start("worker.Worker", *_HOST, *work, self.address)
        self.wait_for_workers(self._workers)
        return worker

    def wait_for_workers(self, count: int) -> None:
        """Return once ``count`` workers are registered at the master."""
        wait_for(lambda: self.says()["aliveworkers"] == count, 90, f"{count} workers")

    def says(self) -> dict[str, Any]:
        """Return the master's status."""
        with urllib.request.urlopen(f"{self.page}/json/", timeout=30) as answer:
            told: dict[str, Any] = json.load(answer)
        return told

    def _start(self, name: str, *arguments: str) -> Running:
        pyspark = pyspark_folder()
        launch = [str(java_executable()), *SPARK_FLAGS, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return self._processes.start_command(
            [*launch, "-cp", f"{pyspark}/jars/*", f"org.apache.spark.deploy.{name}", *arguments],
            # spark-class sets SPARK_SCALA_VERSION; a worker needs it to build the command lines of its executors.
            env={"SPARK_HOME": str(pyspark), "SPARK_LOCAL_IP": "127.0.0.1", "SPARK_SCALA_VERSION": "2.13"},
            cwd=self._folder,
            new_group=True,
        )
