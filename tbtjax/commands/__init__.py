"""The commands of `tbtjax`, one module each.

A command's module has `add_to(commands)`, which adds its parser with `run` as the default of that
name: a function of the parsed options that returns the exit code. What is heavy is imported in
`run`, so that `tbtjax --help` answers at once.
"""

import sys


def failed(command: str, message: str) -> int:
    """One line on stderr; returns 2, the exit code for unusable input or options."""
    print(f"tbtjax {command}: error: {' '.join(message.split())}", file=sys.stderr)
    return 2
