"""What is typed behind make is honoured or named, never ignored."""

import subprocess

import pytest

from runtime.settings import catalogue
from runtime.settings.setting import ROOT


def make(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Let make say what it would do."""
    alone = {"PATH": "/usr/local/bin:/usr/bin:/bin", **environ}
    return subprocess.run(["make", "-n", *words], cwd=ROOT, env=alone, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["broker"], "-m embedded.broker --port 9092 --data-dir data/broker"),
        (["broker", "PORT=9095"], "-m embedded.broker --port 9095 --data-dir data/broker"),
        (["broker", "ARGS=--data-dir /tmp/b"], "--port 9092 --data-dir data/broker --data-dir /tmp/b"),
        (["demo", "ARGS=--rate 20"], "-m embedded.demo --rate 20"),
        (["demo", "OUTPUT_FORMAT=json", "SPARK_MEMORY=1g"], "-m embedded.demo"),
        (["chaos", "ARGS=--interval 1"], "-m tests.support.chaos --minutes 1  --interval 1"),
        (["chaos", "MINUTES=30", "SEED=7"], "-m tests.support.chaos --minutes 30 --seed 7"),
        (["test", "ARGS=-k pacing"], '-m pytest -m "not compose and not browser" -k pacing'),
        (["test-browser", "ARGS=-k dark"], "-m pytest -m browser tests/browser -k dark"),
        (["dashboard", "ARGS=--port 8600"], "-m dashboard.serve --port 8600"),
        (["dashboard", "DASHBOARD_PORT=8600", "OUTPUT_PATH=/tmp/o"], "-m dashboard.serve"),
        (["doctor", "ARGS=--topic x"], "|| echo python3) -B -m doctor --topic x"),
        (["setup-sources"], "bash scripts/setup producer/sources"),
        (["setup", "PYTHON=python3.13", "CLIENT_TICKETS_CACHE=/tmp/x"], "bash scripts/setup"),
    ],
)
def test_what_a_recipe_reads_is_honoured(words: list[str], command: str) -> None:
    done = make(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith(command)


def test_every_key_of_env_may_be_typed_behind_make() -> None:
    done = make("demo", *(f"{key}=x" for key in catalogue.ALL))
    assert done.returncode == 0, done.stderr


def test_a_port_of_the_environment_is_meant_for_something_else() -> None:
    assert "--port 9092 " in make("broker", PORT="3000").stdout


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["demo", "COUNT=500"], "make demo does not read COUNT."),
        (["demo", "PORT=9095"], "make demo does not read PORT."),
        (["check", "ARGS=x"], "make check does not read ARGS."),
        (["dashboard", "PORT=8600"], "make dashboard does not read PORT."),
        (["broker", "PROT=9095"], "make broker does not read PROT."),
        (["ARG=--count 5", "demo"], "make demo does not read ARG."),
    ],
)
def test_what_no_recipe_reads_is_named_with_what_would_work(words: list[str], named: str) -> None:
    done = make(*words)
    assert done.returncode == 2
    assert f'*** {named} Flags go into ARGS, such as: make demo ARGS="--count 500".' in done.stderr
    assert done.stdout == ""
