"""One export of a simulated study, in a process of its own: ``WAY API STUDY``; prints its figures.

``seed`` is the way of the SDK's later module: the whole study in a list, then one MERGE statement a
batch of 500, with the constraints that it lacked.
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
from connector.model.entities import ENTITIES

_SEED = """
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
_SEED_KEYS = {
    "SeedStudy": "study_key", "SeedSubject": "study_key, n.subject_key",
    "SeedVisit": "study_key, n.visit_id", "SeedRecord": "study_key, n.record_id",
}  # fmt: skip
SEED_CONSTRAINTS = [
    f"CREATE CONSTRAINT bench_{label.lower()} IF NOT EXISTS FOR (n:{label})"
    f" REQUIRE (n.{key}) IS UNIQUE"
    for label, key in _SEED_KEYS.items()
]
_UP_TO_RECORDS = [name for name in ENTITIES if name != "record_revision"]


def seed(sdk: ImednetSDK, study: str, uri: str, auth: tuple[str, str]) -> int:
    """All records in a list; then batch by batch."""
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
            session.run(_SEED, rows=rows).consume()
    return len(records)


def ours(*, idempotent: bool, kinds: list[str]) -> Callable[..., int]:
    """This project's export."""

    def run(sdk: ImednetSDK, study: str, uri: str, auth: tuple[str, str]) -> int:
        config = Neo4jSinkConfig(idempotent=idempotent)
        with Neo4jExportSink(uri, auth, study, config=config) as sink:
            return StudyExport(SdkReader(sdk), sink, kinds=kinds).run()

    return run


WAYS: dict[str, Callable[..., int]] = {
    "seed": seed,
    "merge": ours(idempotent=True, kinds=_UP_TO_RECORDS),
    "create": ours(idempotent=False, kinds=_UP_TO_RECORDS),
    "all": ours(idempotent=True, kinds=list(ENTITIES)),
}


def main() -> None:
    """Run one way."""
    way, api, study = sys.argv[1:]
    if way != "seed":
        tune()
    sdk = ImednetSDK(api_key=API_KEY, security_key=SECURITY_KEY, base_url=api)
    auth = (os.environ["NEO4J_USERNAME"], os.environ["NEO4J_PASSWORD"])
    began, cpu = time.monotonic(), time.process_time()
    count = WAYS[way](sdk, study, os.environ["NEO4J_URI"], auth)
    took = time.monotonic() - began
    figures = {
        "records/s": count / took, "CPU s / 100 000": (time.process_time() - cpu) / count * 1e5,
        "peak memory MB": peak_memory_mb(),
    }  # fmt: skip
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
