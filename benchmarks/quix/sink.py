"""Quix Streams' Neo4jSink as its documentation shows it. Runs in a separate environment."""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from quixstreams import Application
from quixstreams.sinks.community.neo4j import Neo4jSink

servers, topic, group, interval = sys.argv[1:]
merge = Path(__file__).parent.with_name("plain_merge.py").read_text().split('"""')[3]
address = urlsplit(os.environ["NEO4J_URI"])
app = Application(
    broker_address=servers, consumer_group=group, auto_offset_reset="earliest",
    commit_interval=float(interval), loglevel="WARNING", auto_create_topics=False,
)  # fmt: skip
sdf = app.dataframe(topic=app.topic(topic))
sdf.sink(
    Neo4jSink(
        host=address.hostname,
        port=address.port,
        username=os.environ["NEO4J_USERNAME"],
        password=os.environ["NEO4J_PASSWORD"],
        cypher_query=merge,
        notifications_min_severity="OFF",
    )
)
app.run()
