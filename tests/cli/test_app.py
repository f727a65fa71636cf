"""The frame of the command line: help, exit codes, one clean message, JSON that is nothing but JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from aimc_sim.cli import app as frame
from aimc_sim.errors import AimcError, BadInput

RUN = CliRunner()


def invoke(*args: str) -> Any:
    return RUN.invoke(frame.app, list(args))


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`aimc-sim doctor` raises what the test says."""

    def install(error: BaseException) -> None:
        def command(as_json: bool = typer.Option(False, "--json")) -> None:
            """Fails."""
            raise error

        module = type(sys)("aimc_sim.cli.doctor")
        module.command = command  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "aimc_sim.cli.doctor", module)

    return install


def test_help_lists_every_command_and_loads_none_of_them() -> None:
    program = (
        "import sys\n"
        "from aimc_sim.cli.app import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit as done:\n    assert done.code in (0, None)\n"
        "heavy = {'torch', 'numpy', 'numba', 'h5py', 'transformers', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in frame.COMMANDS)


@pytest.mark.parametrize("name", frame.COMMANDS)
def test_every_command_has_help_that_begins_with_its_line(name: str) -> None:
    shown = invoke(name, "--help")
    assert shown.exit_code == 0
    assert frame.COMMANDS[name].split()[0] in shown.output
    command = frame.load(name)
    assert (command.help or "").strip().splitlines()[0] == frame.COMMANDS[name]
    parts = command.commands.values() if hasattr(command, "commands") else [command]
    for part in parts:
        assert any("--json" in parameter.opts for parameter in part.params), "every command has --json"


def test_version() -> None:
    assert invoke("--version").output == "aimc-sim 0.1.0\n"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (BadInput("bits", got=1, why="few", do="use 2"), 2, "error: bits: got 1. few.\nnext: use 2\n"),
        (BadInput("bits"), 2, "error: bits."),
        (AimcError("the journal is of another plan"), 3, "error: the journal is of another plan"),
        (ValueError("a bug\nwith details"), 3, "error: ValueError: a bug. Next: run it again with --debug"),
        (MemoryError(), 3, "error: out of memory."),
        (OSError(28, "No space left on device", "x.h5"), 3, "error: x.h5: no space left on device."),
        (ModuleNotFoundError("no", name="transformers"), 3, "error: the package 'transformers' is not installed."),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (typer.Abort(), 130, "error: interrupted"),
        (BrokenPipeError(), 141, ""),
        (typer.Exit(1), 1, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)  # fmt: skip
def test_exit_codes_and_messages(failing: Any, error: BaseException, code: int, message: str) -> None:
    failing(error)
    done = invoke("doctor")
    assert done.exit_code == code
    assert done.stderr.startswith(message)
    assert done.stdout == ""
    assert "Traceback" not in done.output


def test_errors_as_json(failing: Any) -> None:
    failing(BadInput("bits", got=1, why="too few", do="use 2 or more"))
    done = invoke("doctor", "--json")
    assert done.exit_code == 2
    assert done.stderr == ""
    error = json.loads(done.stdout)["error"]
    assert error == {
        "message": "bits: got 1. too few. Next: use 2 or more.",
        "exit_code": 2,
        "what": "bits",
        "why": "too few",
        "do": "use 2 or more",
    }


@pytest.mark.parametrize("args", [("--debug", "doctor"), ("doctor", "--debug")])
def test_debug_shows_the_traceback_wherever_it_stands(failing: Any, args: tuple[str, ...]) -> None:
    failing(ValueError("a bug"))
    done = invoke(*args)
    assert done.exit_code == 3
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("exprot",), "next: try `aimc-sim export`"),
        (("nothing",), "next: see `aimc-sim --help`"),
        (("--bogus",), "next: see `aimc-sim --help`"),
        (("verify",), "next: see `aimc-sim verify --help`"),
        (("verify", "a", "b"), "next: see `aimc-sim verify --help`"),
        (("verify", "a", "--bogus"), "next: see `aimc-sim verify --help`"),
        (("hardware", "shwo"), "next: see `aimc-sim hardware --help`"),
        (("export", "x", "-o", "y", "--calibration-tokens", "many"), "next: see `aimc-sim export --help`"),
    ],
)
def test_a_wrong_command_line_is_bad_input(args: tuple[str, ...], message: str) -> None:
    done = invoke(*args)
    assert done.exit_code == 2
    assert message in done.stderr
    assert json.loads(invoke(*args, "--json").stdout)["error"]["exit_code"] == 2


@pytest.mark.parametrize("args", [(), ("hardware",)])
def test_no_command_shows_the_help(args: tuple[str, ...]) -> None:
    done = invoke(*args)
    assert done.exit_code == 2
    assert "Usage" in done.output


@pytest.mark.under_load
def test_an_interrupt_ends_with_130_and_no_traceback() -> None:
    program = (
        "import signal, time, sys, types, typer\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a suite in the background ignores it
        "from aimc_sim.cli import app as frame\n"
        "module = types.ModuleType('aimc_sim.cli.doctor')\n"
        "def command():\n    print('ready', flush=True)\n    while True: time.sleep(1)\n"
        "module.command = command\n"
        "sys.modules['aimc_sim.cli.doctor'] = module\n"
        "frame.app(['doctor'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert stderr == "error: interrupted\n"


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("signoff", (), "next: the same command goes on where it stopped\n"),
        ("signoff", ("--restart",), "next: the same command goes on where it stopped, without --restart\n"),
        ("train", (), "next: the same command goes on after the last step"),
        ("sample", (), "next: the same command goes on after the last whole shard\n"),
        ("sensitivity", (), "next: the same command goes on where it stopped\n"),
        ("place", (), "next: the same command goes on where it stopped\n"),
        ("size", (), "next: the same command goes on where a sweep stopped\n"),
        ("explain", (), ""),
        ("eval", (), ""),
    ],
)
def test_an_interrupted_command_says_whether_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, name: str, more: tuple[str, ...], said: str
) -> None:
    def command(restart: bool = typer.Option(False), as_json: bool = typer.Option(False, "--json")) -> None:
        raise KeyboardInterrupt

    module = type(sys)(f"aimc_sim.cli.{name}")
    module.command = command  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, f"aimc_sim.cli.{name}", module)
    done = invoke(name, *more)
    assert done.exit_code == 130
    assert done.stderr.startswith(f"error: interrupted\n{said}")
    assert done.stderr.count("\n") == 1 + bool(said)
    error = json.loads(invoke(name, *more, "--json").stdout)["error"]
    assert error.get("do", "") == done.stderr.partition("next: ")[2].rstrip("\n")


def test_the_console_script_is_installed() -> None:
    script = Path(sys.executable).with_name("aimc-sim")
    done = subprocess.run(
        [script, "--version"], capture_output=True, text=True, env={**os.environ, "COLUMNS": "80"}
    )
    assert (done.stdout, done.returncode) == ("aimc-sim 0.1.0\n", 0)
