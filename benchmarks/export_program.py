"""One export of a simulated study, as a program: ``METHOD API STUDY``. Prints figures as JSON.

``sdk`` does what the SDK's later export module does: it reads the whole study into a list, then
runs one MERGE statement per batch of 500. It gets the constraints that the module lacks.
"""

import json
import os
import sys
import time
from collections.abc import Callable

import neo4j
from imednet import ImednetSDK

from connector.cli.export import tune
from connector.cli.running import peak_memory_mb
from connector.export import Neo4jExportSink, Neo4jSinkConfig, iter_batches
from connector.export.study import StudyExport
from connector.imednet.reader import SdkReader
from connector.lab.simulator.api import API_KEY, SECURITY_KEY
from connector.model.entities import READ_KINDS

_SDK_MERGE = """
UNWIND $rows AS row
MERGE (st:SeedStudy {study_key: row.study_key})
MERGE (su:SeedSubject {subject_key: row.subject_key, study_key: row.study_key})
MERGE (v:SeedVisit {visit_id: row.visit_id, study_key: row.study_key})
MERGE (r:SeedRecord {record_id: row.record_id, study_key: row.study_key})
SET r += row.record_data
MERGE (st)-[:HAS_SUBJECT]->(su)
MERGE (su)-[:HAS_VISIT]->(v)
MERGE (v)-[:HAS_RECORD]->(r)
"""
_SDK_KEYS = {
    "SeedStudy": "study_key", "SeedSubject": "study_key, n.subject_key",
    "SeedVisit": "study_key, n.visit_id", "SeedRecord": "study_key, n.record_id",
}  # fmt: skip
SDK_CONSTRAINTS = [
    f"CREATE CONSTRAINT bench_{label.lower()} IF NOT EXISTS FOR (n:{label})"
    f" REQUIRE (n.{key}) IS UNIQUE"
    for label, key in _SDK_KEYS.items()
]
_UP_TO_RECORDS = ["study", "site", "subject", "visit", "record"]


def sdk_module(sdk: ImednetSDK, study: str, uri: str, auth: tuple[str, str]) -> int:
    """Read all records into a list, then write batch by batch, as the SDK's module does."""
    with neo4j.GraphDatabase.driver(uri, auth=auth) as driver, driver.session() as session:
        records = sdk.records.list(study_key=study)
        for batch in iter_batches(records, 500):
            rows = [
                {
                    "record_id": record.record_id, "visit_id": record.visit_id,
                    "subject_key": record.subject_key, "study_key": study,
                    "record_data": record.record_data,
                }
                for record in batch
            ]  # fmt: skip
            session.run(_SDK_MERGE, rows=rows).consume()
    return len(records)


def connector(*, idempotent: bool, kinds: list[str]) -> Callable[..., int]:
    """Return this project's export with these options."""

    def run(sdk: ImednetSDK, study: str, uri: str, auth: tuple[str, str]) -> int:
        config = Neo4jSinkConfig(idempotent=idempotent)
        with Neo4jExportSink(uri, auth, study, config=config) as sink:
            return StudyExport(SdkReader(sdk), sink, kinds=kinds).run()

    return run


METHODS: dict[str, Callable[..., int]] = {
    "sdk": sdk_module,
    "merge": connector(idempotent=True, kinds=_UP_TO_RECORDS),
    "create": connector(idempotent=False, kinds=_UP_TO_RECORDS),
    "all": connector(idempotent=True, kinds=list(READ_KINDS)),
}


def main() -> None:
    """Run one method."""
    method, api, study = sys.argv[1:]
    if method != "sdk":
        tune()
    sdk = ImednetSDK(api_key=API_KEY, security_key=SECURITY_KEY, base_url=api)
    auth = (os.environ["NEO4J_USERNAME"], os.environ["NEO4J_PASSWORD"])
    started, cpu = time.monotonic(), time.process_time()
    count = METHODS[method](sdk, study, os.environ["NEO4J_URI"], auth)
    seconds = time.monotonic() - started
    figures = {
        "records/s": count / seconds, "CPU s / 100 000": (time.process_time() - cpu) / count * 1e5,
        "peak memory MB": peak_memory_mb(),
    }  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
