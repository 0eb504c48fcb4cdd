"""Exports a study to Neo4j in one call, with the SDK of the caller."""

from typing import Any

import structlog

from connector.errors import FatalError
from connector.export.config import Neo4jSinkConfig, SinkConfig
from connector.export.errors import ExportError, RecordsRefusedError
from connector.export.neo4j_sink import Neo4jExportSink
from connector.export.outcome import raise_if_incomplete
from connector.export.sink import iter_batches
from connector.export.study import StudyExport
from connector.imednet.reader import SdkReader, has_client, list_records

log = structlog.stdlib.get_logger("connector.export")


def export_to_neo4j(
    sdk: Any,
    study_key: str,
    uri: str,
    auth: Any,
    *,
    config: SinkConfig | None = None,
) -> int:
    """Export a study to Neo4j; returns the number of records read. Blocks.

    Exports all kinds, page by page, to the same graph as the stream, whichever runs first. A call
    within an hour of an interrupted export resumes it, and counts the records read before. On a
    terminal a bar shows the progress.

    ``sdk`` is an `ImednetSDK`. From any other object with ``records.list(study_key=...)``, such as
    a test double, only the records are exported, by `ExportSink.write_batch`.

    Raises:
        ExportConfigurationError: the database cannot be used.
        ExportBatchError: some records cannot be stored (it gives their ids); all others were.
        ExportIncompleteError: some kinds could not be exported completely; all others were.
        ExportError: the API cannot be read, or does not know the study.
    """
    config = config or Neo4jSinkConfig()
    with Neo4jExportSink(uri, auth, study_key, config=config) as sink:
        if has_client(sdk):
            return StudyExport(SdkReader(sdk), sink).run()
        return _export_records(sdk, study_key, sink, config.batch_size)


def _export_records(sdk: Any, study_key: str, sink: Neo4jExportSink, batch_size: int) -> int:
    log.warning("SDK without a client: exporting only its records", study=study_key)
    try:
        records = list_records(sdk, study_key)
    except FatalError as error:
        raise ExportError(str(error)) from None
    count, refused = 0, {}
    for number, batch in enumerate(iter_batches(records, batch_size)):
        try:
            count += sink.write_batch(batch, batch_id=f"{study_key}/records/{number}")
        except RecordsRefusedError as error:
            refused[error.batch_id] = str(error)
    raise_if_incomplete(study_key, {"record": count}, {}, refused)
    return count
