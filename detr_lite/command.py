"""How a command ends when something is wrong: one line for what the user can mend, exit code 2, no traceback."""

import sys
from collections.abc import Callable

from detr_lite.structures import DetrLiteError


def run_command(main: Callable[[], None]) -> None:
    """Run a tool's main function and turn its end into an exit code: 0, 2 for a user's fault, 130 for Ctrl-C."""
    try:
        main()
    except DetrLiteError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


def one_line(error: DetrLiteError) -> str:
    """The message itself: an error in a loading process arrives wrapped in that process's traceback."""
    lines = str(error).strip().splitlines() or ["unknown"]
    return lines[-1].removeprefix(f"{DetrLiteError.__module__}.{DetrLiteError.__qualname__}: ")
