"""Code in the wrong layer fails `make check`."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "connector", tmp_path / "connector")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [program, "--no-cache"], cwd=folder, capture_output=True, text=True, check=False
    )


def test_the_code_keeps_its_import_contracts(copy: Path) -> None:
    """The code keeps its import contracts."""
    assert lint(copy).returncode == 0


def test_a_folder_that_stands_in_no_layer_fails(copy: Path) -> None:
    """A folder that is in no layer fails the check."""
    (copy / "connector" / "helpers").mkdir()
    (copy / "connector" / "helpers" / "__init__.py").touch()
    done = lint(copy)
    assert done.returncode != 0
    assert "connector.helpers" in done.stdout


@pytest.mark.parametrize(
    "module", ["model/dates", "source/window", "source/schedule", "sink/batch"]
)
def test_a_pure_module_that_starts_programs_fails(copy: Path, module: str) -> None:
    """A pure module that imports ``subprocess`` fails the check."""
    path = copy / "connector" / f"{module}.py"
    path.write_text(f"{path.read_text()}\nimport subprocess\n")
    done = lint(copy)
    assert done.returncode != 0
    assert f"connector.{module.replace('/', '.')} -> subprocess" in done.stdout


@pytest.mark.parametrize(
    ("program", "foreign"), [("source", ["neo4j"]), ("sink", ["imednet", "sqlite3"])]
)
def test_a_program_loads_no_client_that_it_does_not_use(program: str, foreign: list[str]) -> None:
    """Each takes 20 to 40 MB of memory and a tenth of a second of each start."""
    code = f"import sys, connector.cli.{program}; print([m for m in {foreign} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
