"""The driver: its options, its credentials, and a new server's first password."""

from importlib.metadata import version
from typing import Any

import neo4j
from neo4j.auth_management import AuthManager
from neo4j.exceptions import DriverError, Neo4jError

from connector.config import Neo4jSettings
from connector.errors import FatalError

FROM_SETTINGS = object()
_AUTH_LENGTHS = (2, 3)
"""Lengths of an auth tuple: user, password, and optionally the realm."""


def new_driver(settings: Neo4jSettings, auth: Any = FROM_SETTINGS) -> neo4j.Driver:
    """Return a driver; sends nothing.

    ``auth`` replaces the user and password of the settings.

    Raises:
        FatalError: the driver rejects ``auth`` or a setting.
    """
    auth = _auth_of(settings) if auth is FROM_SETTINGS else _validated(auth)
    try:
        return neo4j.GraphDatabase.driver(
            settings.uri,
            auth=auth,
            connection_timeout=settings.connect_timeout_seconds,
            connection_acquisition_timeout=settings.connect_timeout_seconds,
            connection_write_timeout=settings.transaction_timeout_seconds,
            liveness_check_timeout=30.0,
            max_connection_lifetime=3600,
            notifications_min_severity="OFF",
            user_agent=f"imednet-connector/{version('imednet-connector')}",
        )
    except Exception as error:  # any type: its text may quote the settings
        raise FatalError("The Neo4j driver rejects its settings. Check NEO4J_URI") from error


def _auth_of(settings: Neo4jSettings) -> tuple[str, str]:
    if settings.password is None:
        raise FatalError("NEO4J_PASSWORD is not set")
    return settings.username, settings.password.get_secret_value()


def _validated(auth: Any) -> Any:
    """Return ``auth`` as the driver accepts it; the driver's error would quote any other value."""
    if isinstance(auth, list):
        auth = tuple(auth)
    if isinstance(auth, tuple) and len(auth) in _AUTH_LENGTHS:
        return auth
    if auth is None or isinstance(auth, neo4j.Auth | AuthManager):
        return auth
    raise FatalError(
        "auth must be (user, password), (user, password, realm), a neo4j.Auth, an AuthManager, or"
        " None for a server without authentication"
    )


def set_first_password(settings: Neo4jSettings) -> None:
    """Replace the initial password of a new server.

    Raises:
        FatalError: the server is unreachable or already has a password.
    """
    password = settings.password.get_secret_value() if settings.password else ""
    driver = neo4j.GraphDatabase.driver(
        settings.uri,
        auth=(settings.username, "neo4j"),
        connection_acquisition_timeout=settings.connect_timeout_seconds,
    )
    with driver:
        try:
            driver.execute_query(
                "ALTER CURRENT USER SET PASSWORD FROM 'neo4j' TO $password",
                password=password,
                database_="system",
            )
        except (Neo4jError, DriverError, OSError) as error:
            raise FatalError(
                f"Cannot set the first Neo4j password: {type(error).__name__}"
            ) from error
