"""Settings of the graph database."""

from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from connector.config.section import Seconds, Section

NEO4J_SCHEMES = ("bolt", "bolt+s", "bolt+ssc", "neo4j", "neo4j+s", "neo4j+ssc")


class Neo4jSettings(Section):
    """The graph database."""

    name = "neo4j"

    uri: str = Field(
        "bolt://localhost:7687",
        description=f"SCHEME://host:port; schemes: {', '.join(NEO4J_SCHEMES)}.",
    )
    username: str = Field("neo4j", description="Database user.")
    password: SecretStr | None = Field(None, description="Password of the database user.")
    database: str = Field("neo4j", description="Database name.")
    connect_timeout_seconds: Seconds = Field(
        10.0, description="Maximum wait for a connection, pooled or new."
    )
    transaction_timeout_seconds: Seconds = Field(
        60.0, description="The server terminates a transaction that takes longer."
    )

    @field_validator("uri")
    @classmethod
    def _no_userinfo(cls, value: str) -> str:
        if "@" in value:
            raise ValueError(
                "must not contain a user or password. Use NEO4J_USERNAME and NEO4J_PASSWORD"
            )
        return value

    @field_validator("uri")
    @classmethod
    def _is_address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            is_address = bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address or parts.scheme not in NEO4J_SCHEMES:
            raise ValueError(
                f"must be SCHEME://host:port, with SCHEME one of {', '.join(NEO4J_SCHEMES)}"
            )
        return value
