"""A broker with TLS and SASL listeners; the JDK's keytool creates the certificates."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from connector.lab.servers.local import LocalKafka
from connector.lab.servers.processes import free_port

USER, PASSWORD = "somebody", "canary-password"
_STORE_PASSWORD = "changeit"
_LISTENERS = ("PLAINTEXT", "SASL_PLAINTEXT", "SASL_SSL", "SSL", "MUTUAL")
_SETTINGS = """
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={listeners}
controller.quorum.voters=1@127.0.0.1:{controller}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,MUTUAL:SSL,PLAINTEXT:PLAINTEXT,\
SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config={login}
listener.name.sasl_ssl.plain.sasl.jaas.config={login}
ssl.keystore.location={folder}/server.p12
ssl.keystore.password={password}
ssl.keystore.type=PKCS12
ssl.truststore.location={folder}/server.pem
ssl.truststore.type=PEM
listener.name.mutual.ssl.client.auth=required
"""


@dataclass
class SecuredKafka:
    """The broker, its ports by listener, and two CAs. Its certificate is for localhost only."""

    broker: LocalKafka
    ports: dict[str, int]
    ca: Path
    other_ca: Path

    password: str = PASSWORD

    def change_password(self, to: str = "another-password") -> None:
        """Restart the broker with another password."""
        properties = self.broker.folder / "server.properties"
        if self.broker.process:
            self.broker.process.stop()
        properties.write_text(properties.read_text().replace(self.password, to))
        self.password = to
        self.broker.start()
        self.broker.wait()

    def client(self, listener: str, **changed: str) -> dict[str, str]:
        """Return settings of a client that the listener accepts, with changes."""
        settings = {
            "bootstrap_servers": f"localhost:{self.ports[listener]}",
            "security_protocol": "SSL" if listener == "MUTUAL" else listener,
        }
        if listener.endswith("SSL") or listener == "MUTUAL":
            settings["ssl_ca_location"] = str(self.ca)
        if listener.startswith("SASL"):
            settings |= {
                "sasl_mechanism": "PLAIN",
                "sasl_username": USER,
                "sasl_password": PASSWORD,
            }
        return {
            f"KAFKA_{name.upper()}": value for name, value in (settings | changed).items() if value
        }


@contextmanager
def secured_kafka(folder: Path) -> Iterator[SecuredKafka]:
    ca, other_ca = (_certificate(folder, name) for name in ("server", "other"))
    ports = {name: free_port() for name in _LISTENERS}
    kafka = LocalKafka(folder / "kafka", ports["PLAINTEXT"])
    kafka.start(
        _SETTINGS.format(
            listeners=",".join(f"{name}://localhost:{port}" for name, port in ports.items()),
            controller=free_port(),
            login="org.apache.kafka.common.security.plain.PlainLoginModule required"
            f' user_{USER}="{PASSWORD}";',
            folder=folder,
            password=_STORE_PASSWORD,
        )
    )
    try:
        kafka.wait()
        yield SecuredKafka(kafka, ports, ca, other_ca)
    finally:
        if kafka.process:
            kafka.process.stop()


def _certificate(folder: Path, name: str) -> Path:
    """Create a self-signed key in ``name.p12``; return the path of its certificate."""
    store = [
        "-keystore", str(folder / f"{name}.p12"), "-storetype", "PKCS12",
        "-storepass", _STORE_PASSWORD, "-alias", name,
    ]  # fmt: skip
    pem = folder / f"{name}.pem"
    for command in (
        ["-genkeypair", "-keyalg", "EC", "-dname", f"CN={name}", "-ext", "SAN=dns:localhost",
         "-validity", "2"],
        ["-exportcert", "-rfc", "-file", str(pem)],
    ):  # fmt: skip
        subprocess.run(["keytool", *command, *store], check=True, capture_output=True)
    return pem
