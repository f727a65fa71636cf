"""``python -m aimc_sim.evaluate``: the command line of lm-evaluation-harness, with the model ``aimc-sim``."""

from __future__ import annotations

import sys

from aimc_sim.errors import AimcError


def main() -> None:
    """Run the harness. Bad input ends it with exit code 2, as everywhere."""
    try:
        from lm_eval.__main__ import cli_evaluate

        # late: lm-evaluation-harness is of an extra
        import aimc_sim.evaluate.harness  # noqa: F401  (registers the model)
    except ModuleNotFoundError as error:
        sys.stderr.write(f"error: {error.name} is not installed\nnext: pip install 'aimc-sim[llm,eval]'\n")
        raise SystemExit(2) from None
    try:
        cli_evaluate()
    except AimcError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
