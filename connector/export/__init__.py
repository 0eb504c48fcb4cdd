"""Exports a study to Neo4j in one call, without Kafka, by the stream's graph model and writer.

Names, parameters and defaults are those of the export module in later versions of the SDK, so code
written for that module runs after a change of its import.
"""

from connector.export.config import Neo4jSinkConfig, SinkConfig
from connector.export.errors import (
    ExportBatchError,
    ExportConfigurationError,
    ExportError,
    ExportIncompleteError,
)
from connector.export.neo4j_sink import Neo4jExportSink
from connector.export.sink import ExportSink, iter_batches
from connector.export.to_neo4j import export_to_neo4j

__all__ = [
    "ExportBatchError",
    "ExportConfigurationError",
    "ExportError",
    "ExportIncompleteError",
    "ExportSink",
    "Neo4jExportSink",
    "Neo4jSinkConfig",
    "SinkConfig",
    "export_to_neo4j",
    "iter_batches",
]
