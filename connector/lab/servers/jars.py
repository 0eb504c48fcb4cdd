"""The servers' jars, downloaded once by Maven into the user's cache."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from connector.errors import FatalError

POM = Path(__file__).with_name("pom.xml")
_DOWNLOAD_SECONDS_MAX = 900
_OUTPUT_TAIL = 400


def class_path(server: str) -> str:
    """Return the Java class path of ``kafka`` or ``neo4j``, downloading the jars on first use.

    Blocks while Maven downloads, for 15 minutes at most.

    Raises:
        FatalError: Java or Maven is missing, or the download failed.
    """
    for program, package in (("java", "a JDK 17 or 21"), ("mvn", "Apache Maven")):
        if shutil.which(program) is None:
            raise FatalError(
                f"`{program}` is not on the PATH. Install {package} (Debian: apt-get install"
                " default-jdk-headless maven). Tests and `demo --use-environment` can use running"
                " servers instead: export KAFKA_BOOTSTRAP_SERVERS, NEO4J_URI and NEO4J_PASSWORD"
            )
    folder = _cache() / f"{server}-{hashlib.sha256(POM.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        _download(server, folder)
    return f"{folder}/*"


def _cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "imednet-connector" / "servers"


def _download(server: str, folder: Path) -> None:
    """Download into a temporary folder and rename it, so that ``folder`` is always complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        jars = Path(temporary) / "jars"
        command = [
            "mvn", "--quiet", "--batch-mode", "--file", str(POM), f"--activate-profiles={server}",
            "dependency:copy-dependencies", f"-DoutputDirectory={jars}",
        ]  # fmt: skip
        try:
            subprocess.run(
                command, check=True, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS_MAX
            )
        except subprocess.CalledProcessError as error:
            raise FatalError(
                f"Maven could not download {server}: {error.stdout[-_OUTPUT_TAIL:]}"
            ) from None
        except subprocess.TimeoutExpired:
            raise FatalError(
                f"Maven did not download {server} within {_DOWNLOAD_SECONDS_MAX} s"
            ) from None
        try:
            jars.rename(folder)
        except OSError:  # another process renamed its download first
            if not folder.exists():
                raise
