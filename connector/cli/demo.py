"""``simulate``, ``servers`` and ``demo``: a local API, local servers, and the whole pipeline."""

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import typer
from rich.console import Console

from connector.cli.running import stop_on_signals
from connector.config import LogSettings, Settings
from connector.errors import FatalError
from connector.logs import configure

_EXTRA_MISSING = "This command needs the demo extra: pip install 'imednet-connector[demo]'"


def simulate(
    address: tuple[str, int], seed: int, size: tuple[str, int, int], edits: float, fault: list[str]
) -> None:
    """Serve the simulated API until stopped; print the environment that the source needs.

    Raises:
        FatalError: the demo extra is not installed, the port cannot be used, or a fault is unknown.
    """
    try:
        from connector.lab.simulator.api import API_KEY, SECURITY_KEY, Simulation
        from connector.lab.simulator.faults import FAULTS, Faults
        from connector.lab.simulator.server import listen, serve
        from connector.lab.simulator.study import build_study
    except ImportError:
        raise FatalError(_EXTRA_MISSING) from None
    if "help" in fault:
        print("\n".join(f"{name}: {meaning}" for name, meaning in FAULTS.items()))
        return
    studies, subjects, records = size
    faults = Faults.parse(fault)
    try:
        listener = listen(*address)
    except OSError as error:
        raise FatalError(
            f"Cannot listen on port {address[1]}: {error.strerror}. Choose another with --port"
        ) from None
    built = {key: build_study(key, subjects, records, seed) for key in studies.split(",")}
    print(f"export IMEDNET_BASE_URL=http://127.0.0.1:{listener.getsockname()[1]}")
    print(f"export IMEDNET_API_KEY={API_KEY} IMEDNET_SECURITY_KEY={SECURITY_KEY}")
    print(f"export SOURCE_STUDIES={studies}", flush=True)
    serve(Simulation(built, faults, edits), listener)


def servers(data: Path | None) -> None:
    """Run both servers until stopped; print the environment that the other commands need.

    Raises:
        FatalError: ``data`` holds other files, Java or Maven is missing, or a server failed.
    """
    from connector.lab.servers.local import local_servers, remove_data, run_until

    configure(LogSettings())
    folder = data or Path(tempfile.mkdtemp(prefix="imednet-connector-"))
    stop = stop_on_signals()
    with local_servers(folder, {}) as running:
        for name, value in running.environment.items():
            print(f"export {name}={value}")
        print(f"# logs and data: {folder}; Ctrl-C stops both servers", flush=True)
        run_until(stop, running)
    if data is None:
        remove_data(folder)


def demo(
    size: tuple[int, int], seconds: float, output: Path, *, use_environment: bool, keep: bool
) -> None:
    """Run the demo; exit with code 1 if the graph differs from the API.

    Removes this program's settings from the environment first, which its child processes inherit.

    Raises:
        FatalError: the demo extra is not installed, no server is exported, or the demo failed.
    """
    try:
        from connector.lab.demo import DemoPlan, run
        from connector.lab.surroundings import endpoints, without_settings
    except ImportError:
        raise FatalError(_EXTRA_MISSING) from None
    configure(LogSettings(level="warning"))
    exported = endpoints(os.environ) if use_environment else {}
    environment = without_settings(os.environ) | exported
    os.environ.clear()
    os.environ.update(environment)
    plan = DemoPlan(*size, seconds, output, exported, keep)
    if not run(plan, Console(highlight=False), _settings_from):
        raise typer.Exit(1)


def _settings_from(variables: Mapping[str, str]) -> Settings:
    os.environ.update(variables)
    return Settings.load()
