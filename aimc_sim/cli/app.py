"""The entry point ``aimc-sim``: finds commands by name, loads only the one that runs, maps errors to exit codes."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from aimc_sim.cli.console import error_line, print_json
from aimc_sim.errors import AimcError, BadInput

PASS, FAIL, BAD_INPUT, OTHER, INTERRUPTED, BROKEN_PIPE = 0, 1, 2, 3, 130, 141

# Name → the one line that `aimc-sim --help` shows; a test compares it with the command's own help.
COMMANDS = {
    "export": "Write a checkpoint's weights into a weight file.",
    "inspect": "Show what a weight file holds.",
    "verify": "Compare every byte of a weight file with its checksums.",
    "run": "Generate text on a simulated chip.",
    "eval": "Score a text on a simulated chip: perplexity.",
    "sample": "Write text to train on: the model's own samples, or another.",
    "train": "Train a checkpoint for a chip.",
    "explain": "Show what each effect of a hardware costs, as a waterfall.",
    "size": "Size a model: tiles, energy, latency and area.",
    "sensitivity": "Show which matrices cost accuracy when they are analog.",
    "place": "Choose which matrices stay digital, or are held better, to meet an accuracy with the least energy.",
    "signoff": "Decide over chips and times whether the model survives.",
    "merge": "Put what others have computed of a study into one store.",
    "compare": "Compare two sign-offs on the chips and items that they share.",
    "hardware": "List, show and check hardware descriptions.",
    "doctor": "Show versions, threads, processor, GPU, and what is missing.",
}

# What a command that was interrupted does when it is called again; the others begin anew.
GOES_ON = {
    "signoff": "the same command goes on where it stopped",
    "sensitivity": "the same command goes on where it stopped",
    "place": "the same command goes on where it stopped",
    "size": "the same command goes on where a sweep stopped",
    "sample": "the same command goes on after the last whole shard",
    "train": "the same command goes on after the last step (of several processes: from the last --save-every)",
}


class CommandGroup(TyperGroup):
    """A group holds commands by name. Help needs no command's module; a command needs only its own."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command without its options, enough for the list in the help text."""
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name]) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] in COMMANDS:
            return args[0], load(args[0]), args[1:]
        if args and not args[0].startswith("-"):
            close = get_close_matches(args[0], COMMANDS, n=1)
            raise BadInput(
                "command",
                got=args[0],
                why="there is no such command",
                do=f"try `aimc-sim {close[0]}`" if close else "see `aimc-sim --help`",
            )
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Let --debug and --json mean the same wherever they stand."""
        debug, as_json = "--debug" in args, "--json" in args
        ctx.meta["aimc_sim.debug"], ctx.meta["aimc_sim.json"] = debug, as_json
        goes_on = next((GOES_ON.get(arg, "") for arg in args if not arg.startswith("-")), "")
        ctx.meta["aimc_sim.goes_on"] = f"{goes_on}, without --restart" if "--restart" in args else goes_on
        with exit_codes(as_json, debug):
            parsed: list[str] = super().parse_args(ctx, [arg for arg in args if arg != "--debug"])
        return parsed

    def invoke(self, ctx: Any) -> Any:
        with exit_codes(*(ctx.meta[f"aimc_sim.{key}"] for key in ("json", "debug", "goes_on"))):
            return super().invoke(ctx)


def load(name: str) -> Any:
    """Load the command of that name, from its module."""
    module = importlib.import_module(f"aimc_sim.cli.{name}")
    group = getattr(module, "app", None)
    if group is None:
        group = typer.Typer(add_completion=False)
        group.command(name)(module.command)
    command = typer.main.get_command(group)
    command.name = name
    return command


@contextlib.contextmanager
def exit_codes(as_json: bool = False, debug: bool = False, goes_on: str = "") -> Iterator[None]:
    """Turn every error inside into one message and an exit code: 2 bad input, 3 anything else, 130 interrupted.

    goes_on: what to do after an interruption, where the command keeps what it has done.
    """
    try:
        yield
    except (typer.Exit, SystemExit):
        raise
    except (KeyboardInterrupt, typer.Abort):
        _leave(INTERRUPTED, "interrupted", as_json, debug, goes_on)
    except BrokenPipeError:  # the reader of our output has gone: nothing to say, nobody to say it to
        with contextlib.suppress(OSError, ValueError):  # keep the interpreter's last flush quiet
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(BROKEN_PIPE) from None
    except BadInput as error:
        _leave(BAD_INPUT, error, as_json, debug)
    except AimcError as error:
        _leave(OTHER, error, as_json, debug)
    except Exception as error:
        usage = _usage(error)
        if usage == "":  # a group without a command: the parser has shown the help
            raise typer.Exit(BAD_INPUT) from None
        if usage is not None:
            path = getattr(getattr(error, "ctx", None), "command_path", "").split()[1:]
            help_line = " ".join(["aimc-sim", *path, "--help"])
            _leave(BAD_INPUT, BadInput(usage, do=f"see `{help_line}`"), as_json, debug)
        _leave(OTHER, _unexpected(error), as_json, debug)


def _usage(error: Exception) -> str | None:
    """Return what the parser says about the command line; None for every other error. Typer may carry its own click."""
    if not (hasattr(error, "format_message") and hasattr(error, "exit_code")):
        return None
    return str(error.format_message()).strip().rstrip(".")


def _unexpected(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "out of memory. Next: use a smaller model or batch, or a machine with more memory."
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror.lower()}. Next: check the path, its permissions and the space on the disk."
    if isinstance(error, ModuleNotFoundError):
        return f"the package {error.name!r} is not installed. Next: `aimc-sim doctor` names the line that installs it."
    first = (str(error).strip().splitlines() or [""])[0]
    return (
        f"{type(error).__name__}: {first}. Next: run it again with --debug for the traceback, and report it."
    )


def _leave(code: int, error: Exception | str, as_json: bool, debug: bool, do: str = "") -> NoReturn:
    if debug:
        traceback.print_exc()
    if as_json:
        details = {"message": str(error), "exit_code": code}
        if isinstance(error, BadInput):
            details |= {"what": error.what, "why": error.why, "do": error.do}
        elif do:
            details["do"] = do
        print_json({"error": details})
    else:
        error_line(error)
        if do:
            sys.stderr.write(f"next: {do}\n")
    raise typer.Exit(code) from None


def _version(wanted: bool) -> None:
    if wanted:
        from aimc_sim import __version__

        typer.echo(f"aimc-sim {__version__}")
        raise typer.Exit


app = typer.Typer(cls=CommandGroup, add_completion=True, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def aimc_sim(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """What happens to a trained language model when its weights live in analog crossbar tiles.

    Exit codes: 0 pass, 1 the verdict is fail or verify found damage, 2 bad input, 3 anything else, 130 interrupted.
    """


def main() -> None:
    """Run the console script."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # its notes are not ours to print
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    app()


if __name__ == "__main__":
    main()
