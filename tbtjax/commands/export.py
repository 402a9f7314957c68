"""`tbtjax export`: kernels as portable artefacts for programs that have JAX alone."""

import argparse
import contextlib
import importlib.util
import json
import pathlib
from typing import Any

from tbtjax.commands import failed

_DESCRIPTION = """\
Writes a kernel for any number of power-law games as a serialized jax.export artefact, and beside it
FILE.json with its arguments, results and versions. A program with JAX alone can call it:
docs/backend.md shows how.
"""


def add_to(commands: Any) -> None:
    """Adds the command to the subparsers of `tbtjax`."""
    parser = commands.add_parser(
        "export", help="kernels as artefacts for programs with JAX alone", description=_DESCRIPTION
    )
    parser.set_defaults(run=run)
    parser.add_argument("kernel", choices=("threshold", "verdict"), help="what it computes")
    parser.add_argument(
        "--out", type=pathlib.Path, metavar="FILE", help="the artefact (default: KERNEL.jaxexport)"
    )
    parser.add_argument(
        "--max-models",
        type=_models,
        default=32,
        metavar="N",
        help="greatest number of models (default: 32): every game costs as much as one with N",
    )
    parser.add_argument(
        "--limits",
        choices=("equal", "own"),
        default="equal",
        help="equal: all models of a game share their limits (default); own: each has its own",
    )
    parser.add_argument("--cost", choices=("linear", "power", "quadratic"), default="linear")
    parser.add_argument("--deviations", choices=("all", "adjacent"), default="all")
    parser.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    parser.add_argument(
        "--platforms",
        nargs="+",
        choices=("cpu", "cuda", "rocm", "tpu"),
        default=["cpu", "cuda"],
        help="where it shall run (default: cpu cuda)",
    )


def _models(text: str) -> int:
    with contextlib.suppress(ValueError):
        if 2 <= int(text) <= 1024:
            return int(text)
    raise argparse.ArgumentTypeError(f"expected a number of models from 2 to 1024; got {text!r}")


def run(options: argparse.Namespace) -> int:
    """Runs the command; returns the exit code."""
    from tbtjax.export import describe, export_kernel

    settings = {
        name: getattr(options, name)
        for name in ("kernel", "max_models", "limits", "cost", "deviations", "dtype", "platforms")
    }
    if importlib.util.find_spec("flatbuffers") is None:
        return failed("export", "needs flatbuffers (pip install 'tbtjax[backend]')")
    exported = export_kernel(**settings)
    out = options.out or pathlib.Path(f"{options.kernel}.jaxexport")
    about = out.with_name(out.name + ".json")
    try:
        artefact = exported.serialize()
        out.write_bytes(artefact)
        about.write_text(json.dumps(describe(exported, **settings), indent=2) + "\n")
    except OSError as error:
        return failed("export", f"--out {out}: {error.strerror or error}")
    print(f"Written to {out} ({len(artefact):,} bytes) and {about}")
    return 0
