"""The command line, one module a command.

A command is a module ``aimc_sim/cli/NAME.py`` with a function ``command`` (typer annotations, docstring = help),
or ``app`` (a typer.Typer) where it has subcommands, named in ``COMMANDS`` of app.py. It imports what is heavy
inside the function, raises BadInput for bad input and ``typer.Exit(1)`` for a verdict that fails, and with
``--json`` writes one JSON document to stdout (console.print_json); everything else goes to stderr.
"""
