"""A plain MERGE consumer, as many tutorials show it: poll a batch, UNWIND ... MERGE, commit.

``python -m benchmarks.plain_merge SERVERS TOPIC GROUP``; Neo4j settings come from the environment.
"""

import os
import sys

import neo4j
import orjson
from confluent_kafka import Consumer

BATCH = 1000
# Writes the same graph as the sink: the same property names, and the visit.
MERGE = """
MERGE (r:Record {study_key: event.studyKey, record_id: event.id})
SET r += event.data.recordData
SET r._version = event.version, r._hash = event.contentHash, r.interval_id = event.data.intervalId,
    r.form_id = event.data.formId, r.form_key = event.data.formKey, r.site_id = event.data.siteId,
    r.record_status = event.data.recordStatus, r.deleted = event.data.deleted,
    r.date_modified = event.data.dateModified, r.subject_id = event.data.subjectId,
    r.subject_key = event.data.subjectKey, r.visit_id = event.data.visitId,
    r.parent_record_id = event.data.parentRecordId
MERGE (v:Visit {study_key: event.studyKey, visit_id: event.data.visitId})
MERGE (v)-[:HAS_RECORD]->(r)
"""


def main(servers: str, topic: str, group: str) -> None:
    """Run until killed."""
    consumer = Consumer({
        "bootstrap.servers": servers, "group.id": group, "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
    })  # fmt: skip
    consumer.subscribe([topic])
    auth = (os.environ["NEO4J_USERNAME"], os.environ["NEO4J_PASSWORD"])
    with neo4j.GraphDatabase.driver(
        os.environ["NEO4J_URI"], auth=auth, notifications_min_severity="OFF"
    ) as driver:
        while True:
            messages = [each for each in consumer.consume(BATCH, 0.2) if not each.error()]
            if messages:
                rows = [orjson.loads(each.value() or b"") for each in messages]
                driver.execute_query(f"UNWIND $rows AS event {MERGE}", rows=rows)
                consumer.commit(asynchronous=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
