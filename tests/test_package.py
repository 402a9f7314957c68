"""The package as such: what importing it does, what its names document, what a wheel holds."""

import dataclasses
import enum
import importlib.metadata
import inspect
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement

import tbtjax
import tbtjax.measure
from tbtjax import cli

ROOT = pathlib.Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
COMMANDS = [command.__name__.rpartition(".")[2].replace("_", "-") for command in cli._COMMANDS]
NAMES = [(m, name) for m in (tbtjax, tbtjax.measure) for name in m.__all__ if name[0] != "_"]


def in_a_new_process(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_version_is_in_one_place():
    assert tbtjax.__version__ == importlib.metadata.version("tbtjax")
    assert PYPROJECT["project"]["dynamic"] == ["version"]


def test_import_makes_no_array_and_imports_what_it_needs_alone():
    """With a platform that does not exist, the first array is an error."""
    code = """
import sys
import tbtjax
assert not {"jax", "numpy"} & set(sys.modules)
tbtjax.stabilizing_threshold
heavy = {"matplotlib", "pandas", "xarray", "zarr", "dask", "pyarrow", "torch", "sklearn"}
heavy |= {"numba", "optax", "tbtjax.measure", "tbtjax.report", "tbtjax.study", "tbtjax.commands"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
import jax
try:
    jax.numpy.zeros(1)
except RuntimeError as error:
    print(error)
"""
    assert "nowhere" in in_a_new_process(code, JAX_PLATFORMS="nowhere")


def test_no_module_makes_an_array_when_imported():
    code = """
import importlib, pkgutil, tbtjax
for module in pkgutil.walk_packages(tbtjax.__path__, "tbtjax."):
    importlib.import_module(module.name)
"""
    in_a_new_process(code, JAX_PLATFORMS="nowhere")


def test_help_of_every_command_needs_no_numerics():
    code = f"""
import sys
from tbtjax.cli import main
for words in [[], *([command] for command in {COMMANDS})]:
    try:
        main([*words, "--help"])
    except SystemExit as stop:
        assert stop.code == 0
assert not {{"jax", "numpy", "matplotlib"}} & set(sys.modules)
"""
    shown = in_a_new_process(code)
    for command in COMMANDS:
        assert f"usage: tbtjax {command} " in shown


def test_runs_as_a_module():
    found = subprocess.run(
        [sys.executable, "-m", "tbtjax", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert found.stdout == f"tbtjax {tbtjax.__version__}\n"


def test_names_are_there_on_demand():
    code = """
import tbtjax
names = set(tbtjax.__all__)
assert names <= set(dir(tbtjax))
everything = {}
exec("from tbtjax import *", everything)
assert names <= set(everything)
assert tbtjax.curves.power_law is tbtjax.power_law is everything["power_law"]
try:
    tbtjax.power_low
except AttributeError as error:
    assert str(error) == "module 'tbtjax' has no attribute 'power_low'"
else:
    raise AssertionError("found")
"""
    in_a_new_process(code)


# --- Docstrings ----------------------------------------------------------------------------------


def sections(thing):
    """Sections of a docstring by heading; "" is what comes first."""
    found, heading = {"": ""}, ""
    for line in inspect.getdoc(thing).splitlines():
        title = re.fullmatch(r"(Args|Attributes|Returns|Raises|Example|Source)s?:(.*)", line)
        if title:
            heading, line = title.groups()
        found[heading] = found.get(heading, "") + line + "\n"
    return found


def entries(section):
    """Names that an Args or Attributes section describes, a comma between those of one line."""
    lines = re.findall(r"^  \*{0,2}(\w+(?:, \w+)*): ", section, re.MULTILINE)
    return {name for line in lines for name in line.split(", ")}


@pytest.mark.parametrize(("module", "name"), NAMES, ids=[name for _, name in NAMES])
def test_public_names_are_documented(module, name):
    thing = getattr(module, name)
    assert inspect.getdoc(thing), "no docstring"
    found = sections(thing)
    assert found[""].strip()
    if isinstance(thing, type) and issubclass(thing, (BaseException, enum.Enum)):
        return
    if isinstance(thing, type):
        fields = getattr(thing, "_fields", None) or [f.name for f in dataclasses.fields(thing)]
        assert entries(found["Attributes"]) >= set(fields)
        return
    signature = inspect.signature(thing)
    assert entries(found["Args"]) == set(signature.parameters)
    if signature.return_annotation is not None:
        assert "Returns" in found
    if "raise " in inspect.getsource(thing) or "as_array" in inspect.getsource(thing):
        assert "Raises" in found
    assert ">>> " in found["Example"]


# --- What is shipped -----------------------------------------------------------------------------


def test_wheel_holds_the_package_alone_with_its_data(tmp_path):
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        (entry_points,) = (name for name in held if name.endswith("entry_points.txt"))
        assert "tbtjax = tbtjax.cli:main" in archive.read(entry_points).decode()
    package = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tbtjax").rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert {"tbtjax/py.typed", "tbtjax/data/digits_post_training.csv"} <= package
    information = f"tbtjax-{tbtjax.__version__}.dist-info/"
    assert {name for name in held if not name.startswith(information)} == package
    assert information + "licenses/LICENSE" in held


def test_only_the_cuda_extras_bring_cuda():
    extras = PYPROJECT["project"]["optional-dependencies"]
    assert extras["cuda12"] == ["jax[cuda12]"] and extras["cuda13"] == ["jax[cuda13]"]
    asked = [*PYPROJECT["project"]["dependencies"]]
    asked += [line for name, lines in extras.items() if "cuda" not in name for line in lines]
    # With all that they need in turn, as far as it is installed here.
    seen, waiting = set(), [Requirement(line) for line in asked]
    while waiting:
        requirement = waiting.pop()
        key = (requirement.name.lower(), frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        assert not re.search("cuda|nvidia|cupy|^torch$|^tensorflow$", str(requirement).lower())
        try:
            needed = importlib.metadata.requires(requirement.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in needed:
            inner = Requirement(line)
            environments = [{"extra": extra} for extra in requirement.extras or [""]]
            if inner.marker is None or any(map(inner.marker.evaluate, environments)):
                waiting.append(inner)


def test_jax_has_a_lower_bound_and_no_upper_one():
    (jax,) = (
        requirement
        for requirement in map(Requirement, PYPROJECT["project"]["dependencies"])
        if requirement.name == "jax"
    )
    assert [bound.operator for bound in jax.specifier] == [">="]
