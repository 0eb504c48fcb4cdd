"""A study into Neo4j in one call, without Kafka, on the stream's graph model and writer.

The names, parameters and defaults are those of the SDK's later export module, so that code written
for it runs after changing its import.
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
from connector.export.study import export_to_neo4j

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
