"""What the documents say of commands, flags, files, settings and messages is so."""

import argparse
import ast
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

import dashboard.serve
import doctor.__main__
import embedded.broker
import embedded.demo
import processor.spark_processor
import producer.ticket_producer
import runtime.java.jars
import tests.support.add_golden_field
from runtime.settings.setting import ROOT
from tests.support import documents

# Whoever runs a command in a document gets one of these, or a program of the system.
PARSERS = {
    "producer/ticket_producer.py": producer.ticket_producer.build_parser,
    "processor/spark_processor.py": processor.spark_processor.build_parser,
    "dashboard.serve": dashboard.serve.build_parser,
    "doctor": doctor.__main__.build_parser,
    "embedded.broker": embedded.broker.build_parser,
    "embedded.demo": embedded.demo.build_parser,
    "runtime.java.jars": runtime.java.jars.build_parser,
    "tests.support.add_golden_field": tests.support.add_golden_field.build_parser,
}

# Flags of other people's programs.
FOREIGN_FLAGS = {
    *("--build", "--no-deps", "--profile", "--rm", "--scale", "--volume"),  # docker-compose
    "--unsafe-bypass-fsync",  # Redpanda
    "--set",  # rpk
    *("--strict", "--upgrade"),
}

MADE_BY_USE = ("data/", ".pipeline/", "metrics/metrics.parquet", ".venv/", ".cache/")

# What of docker-compose takes names of services.
NAMING_SERVICES = {"up", "run", "exec", "stop", "start", "restart", "logs", "ps"}

# Names of Spark's files.
FOREIGN_NAMES = {"_SUCCESS", "_temporary"}

every_document = pytest.mark.parametrize("name", documents.NAMES)


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    return {flag for action in parser._actions for flag in action.option_strings}


def commands_of(name: str) -> Iterator[list[str]]:
    text = documents.read(name)
    for command in [*documents.commands(text), *documents.inline_code(text)]:
        words = command.split()
        if words and words[-1] != "-c" and any(word.endswith("python") or word == "make" for word in words):
            try:
                yield shlex.split(command, comments=True)
            except ValueError:
                # A command over several lines.
                continue


@every_document
def test_lines_have_at_most_120_columns(name: str) -> None:
    # A row of a table cannot be broken, and the name of a test is long.
    lines = [line for line in documents.read(name).splitlines() if not (line.startswith("| ") and "::test_" in line)]
    assert [line for line in lines if len(line) > 120] == []


@every_document
def test_every_make_target_exists(name: str) -> None:
    used = set(re.findall(r"`make ([a-z-]+)", documents.read(name)))
    used |= {words[1] for words in commands_of(name) if words[0] == "make" and len(words) > 1}
    assert used <= makefile_targets()


def test_the_readme_names_the_commands_that_a_user_needs() -> None:
    used = set(re.findall(r"\bmake ([a-z-]+)", documents.read("README.md")))
    assert {"demo", "setup", "broker", "up", "down"} <= used


@every_document
def test_every_python_command_is_one_that_its_parser_takes(name: str) -> None:
    for words in commands_of(name):
        python = next((place for place, word in enumerate(words) if word.endswith("python")), None)
        if python is None or len(words) == python + 1:
            continue
        program, *arguments = [word for word in words[python + 1 :] if word != "-m"]
        if program == "producer.ticket_producer":
            program = "producer/ticket_producer.py"
        PARSERS[program]().parse_args(arguments)


@every_document
def test_every_flag_exists(name: str) -> None:
    known = FOREIGN_FLAGS.union(*(flags_of(build()) for build in PARSERS.values()))
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", documents.read(name)))
    assert named <= known


@every_document
def test_every_file_that_is_named_exists(name: str) -> None:
    links = re.findall(r"\]\(([^)]+)\)", documents.read(name))
    files = [
        text for text in documents.inline_code(documents.read(name)) if re.fullmatch(r"[\w.-]+(/[\w.*-]+)+/?", text)
    ]
    for path in files:
        assert path.startswith(MADE_BY_USE) or list(ROOT.glob(path.rstrip("/"))), path
    for link in links:
        # A link starts at the folder of its document.
        assert (ROOT / name).parent.joinpath(link.partition("#")[0]).exists(), link


@every_document
def test_every_link_to_a_heading_names_one(name: str) -> None:
    for path, anchor in re.findall(r"\]\(([^)#]*)#([^)]+)\)", documents.read(name)):
        text = (ROOT / name).parent.joinpath(path).read_text(encoding="utf-8") if path else documents.read(name)
        assert anchor in documents.anchors(text), f"{path}#{anchor}"


@every_document
def test_every_block_of_commands_is_one_that_a_shell_takes(name: str) -> None:
    for block in documents.code_blocks(documents.read(name)):
        done = subprocess.run(["bash", "-n"], input=block, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), block


@every_document
def test_every_docker_compose_command_names_services_and_profiles_that_exist(name: str) -> None:
    text = documents.read(name)
    file = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    services = set(re.findall(r"^  ([a-z][a-z-]*[0-9]?):$", file.partition("\nservices:\n")[2], re.MULTILINE))
    profiles = set(re.findall(r"^    profiles:\n      - ([\w-]+)$", file, re.MULTILINE))
    assert {"redpanda", "producer", "processor", "dashboard"} <= services
    assert set(re.findall(r"--profile ([\w-]+)", text)) <= profiles
    for command in [*documents.commands(text), *documents.inline_code(text)]:
        if "docker-compose " not in command or "=…" in command or command.count("'") % 2:
            continue
        words = shlex.split(command.partition("docker-compose ")[2])
        verb = next((word for word in words if word in NAMING_SERVICES), None)
        if verb is None:
            continue
        named = [word for word in words[words.index(verb) + 1 :] if not word.startswith("-") and "=" not in word]
        # What follows the service of these two is a command for it.
        named = named[:1] if verb in {"run", "exec"} else named
        assert set(named) <= services, command


def test_the_readme_is_short() -> None:
    assert len(documents.read("README.md").splitlines()) <= 200


def test_every_document_is_tested_and_is_reached_from_the_readme() -> None:
    found = {str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
    # Its tables are made by a program.
    assert found == {*documents.NAMES, "docs/performance.md"}
    linked = set(re.findall(r"\]\(([^)#]+\.md)", documents.read("README.md")))
    assert found - {"README.md"} <= linked


def test_the_glossary_explains_each_word_once_in_order() -> None:
    words = [word for word, meaning in documents.table(documents.read("docs/glossary.md")) if meaning]
    assert words == sorted(set(words))
    assert {"ledger", "manifest", "commit record", "receipt", "staging", "batch", "offset range", "gap"} <= set(words)


def test_the_readme_holds_the_commands_that_were_promised() -> None:
    text = documents.read("README.md")
    promised = {
        "docker-compose up --build",
        "make demo",
        "make broker",
        "python producer/ticket_producer.py --broker localhost:9092 --rate 20",
        "python processor/spark_processor.py --memory 4g --output-format json",
    }
    assert promised <= set(documents.commands(text))


def test_every_direct_dependency_is_explained() -> None:
    explained = {
        row[0]: row[1] for row in documents.table(documents.section(documents.read("CONTRIBUTING.md"), "Dependencies"))
    }
    files = {
        "producer": "producer/requirements.txt",
        "sources": "producer/sources/requirements.txt",
        "processor": "processor/requirements.txt",
        "dashboard": "dashboard/requirements.txt",
        "build": "requirements-build.txt",
        "dev": "requirements-dev.txt",
        "audit": "requirements-audit.txt",
        "browser tests": "tests/browser/requirements.txt",
    }
    named: dict[str, list[str]] = {}
    for where, file in files.items():
        for package in re.findall(r"^([\w-]+)==", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE):
            named.setdefault(package, []).append(where)
    assert explained == {package: ", ".join(where) for package, where in named.items()}


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "ARCHITECTURE.md"])
def test_the_failpoints_are_those_of_the_code(name: str) -> None:
    code = "".join(text for part in ("processor", "store") for text in documents.code_of(part))
    points = set(re.findall(r'failpoint\("([\w-]+)"\)', code))
    assert len(points) == 8
    assert points <= set(re.findall(r"`([\w-]+)`", documents.read(name)))


def test_every_name_in_code_of_the_documents_for_developers_exists() -> None:
    code = "\n".join(text for part in documents.PARTS for text in documents.code_of(part))
    for name in ("ARCHITECTURE.md", "CONTRIBUTING.md"):
        for text in documents.inline_code(documents.read(name)):
            if re.fullmatch(r"_?[A-Z]\w+(\.\w+)?|\w+_\w+", text):
                assert text.rpartition(".")[2] in code or text in FOREIGN_NAMES, f"{text} in {name}"


def test_the_parts_import_what_the_architecture_says() -> None:
    allowed = {
        "contract": {"contract"},
        "runtime": {"runtime"},
        "store": {"store", "contract", "runtime"},
        "producer": {"producer", "contract", "runtime"},
        "processor": {"processor", "contract", "runtime", "store"},
        "embedded": {"embedded", "contract", "runtime", "store"},
        "dashboard": {"dashboard", "contract", "runtime", "store"},
        "doctor": {"doctor", "embedded", "processor", "runtime", "store"},
    }
    for part, parts in allowed.items():
        imported = {module for text in documents.code_of(part) for module in imports(text)}
        assert imported & set(allowed) <= parts, part
        if part == "contract":
            assert not imported & {"kafka", "pyspark", "faker"}
        if part == "dashboard":
            assert not imported & {"kafka", "confluent_kafka", "pyspark", "sqlite3"}


def test_the_dashboard_opens_nothing_but_by_the_store_and_needs_no_broker_and_no_lock() -> None:
    used = "\n".join(documents.code_of("dashboard"))
    modules = set(re.findall(r"^from ((?:store|runtime|contract)[\w.]*) import", used, re.MULTILINE))
    assert modules == {
        *("contract.columns", "contract.ticket"),
        *("runtime.errors", "runtime.process", "runtime.process.foreign_text", "runtime.process.interpreter"),
        "runtime.process.words",
        *("runtime.settings", "runtime.settings.location", "runtime.settings.setting"),
        *("store.condition", "store.datasets", "store.files", "store.manifest", "store.reader"),
        *("store.reasons", "store.status"),
    }
    assert not re.search(r"\bopen\(|read_bytes|read_text|\block\(|parquet\.", used.replace("self._lock", ""))


def imports(code: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]
