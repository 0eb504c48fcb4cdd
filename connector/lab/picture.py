"""A sample subject's graph as a self-contained HTML page, drawn by neo4j-viz."""

from pathlib import Path
from typing import Any

from connector.errors import FatalError
from connector.neo4j.database import Neo4jDatabase

_COLORS = {
    "Study": "#4c566a", "Site": "#8f6ed5", "Subject": "#d9534f", "Visit": "#f0a63a",
    "Record": "#3b8ea5", "RecordRevision": "#a9d3df", "Query": "#c2185b", "QueryComment": "#e8a0bf",
    "Coding": "#5b8c5a", "Deleted": "#b0b0b0",
}  # fmt: skip
_SIZES = {"Study": 34, "Site": 26, "Subject": 40, "Visit": 30, "Record": 24, "RecordRevision": 12,
          "Query": 22, "QueryComment": 14, "Coding": 18}  # fmt: skip
_CAPTIONS = {"Study": "study_key", "Site": "site_name", "Subject": "subject_key",
             "Visit": "interval_name", "Record": "form_key", "RecordRevision": "record_revision",
             "Query": "variable", "QueryComment": "annotation_status",
             "Coding": "code"}  # fmt: skip
_SUBJECT = """
MATCH (s:Subject {study_key: $study}) WHERE (s)-[:HAS_VISIT]->()
WITH s, EXISTS { (s)-[:HAS_VISIT|HAS_RECORD*1..2]->()-[:HAS_QUERY]->() } AS has_query
ORDER BY has_query DESC, s.subject_id LIMIT 1
MATCH (study:Study)-[:HAS_SUBJECT]->(s)-[:HAS_VISIT|HAS_RECORD*0..2]->(own)
OPTIONAL MATCH (s)-[:AT_SITE]->(site:Site)
OPTIONAL MATCH (own)-[:HAS_QUERY|HAS_CODING]->(note)
OPTIONAL MATCH (note)-[:HAS_COMMENT]->(comment)
OPTIONAL MATCH (own)-[:HAS_REVISION]->(change) WHERE change.record_revision > 1
UNWIND [study, site, own, note, comment, change] AS n WITH collect(DISTINCT n) AS picked
UNWIND picked AS a OPTIONAL MATCH (a)-[r]->(b) WHERE b IN picked
RETURN elementId(a), labels(a), properties(a), type(r), elementId(b)
"""
"""A first revision says no more than its record, so only changes are drawn."""


def draw_subject(database: Neo4jDatabase, study_key: str, page: Path) -> None:
    """Write an HTML page that shows a subject of the study with all that belongs to it.

    Raises:
        FatalError: neo4j-viz is not installed.
    """
    try:
        from neo4j_viz import Layout, Node, Relationship, VisualizationGraph
    except ImportError:
        raise FatalError(
            "The picture needs neo4j-viz: pip install 'imednet-connector[demo]'"
        ) from None
    nodes: dict[str, Any] = {}
    relationships = []
    for start, labels, properties, kind, end in database.read(_SUBJECT, study=study_key):
        label = next(each for each in labels if each in _SIZES)
        nodes[start] = Node(
            id=start,
            caption=str(properties.get(_CAPTIONS[label], label)),
            caption_size=3,  # the largest: a whole subject is drawn small
            size=_SIZES[label],
            color=_COLORS["Deleted" if "Deleted" in labels else label],
            properties={name: str(value) for name, value in properties.items()},
        )
        if kind is not None:
            relationships.append(Relationship(source=start, target=end, caption=kind))
    graph = VisualizationGraph(nodes=list(nodes.values()), relationships=relationships)
    html = graph.render(layout=Layout.FORCE_DIRECTED, width="100%", height="92vh").data
    title = f"<title>A subject of study {study_key}</title><meta charset='utf-8'>"
    legend = " ".join(
        f"<span style='color:{_COLORS[label]}'>&#9679;</span> {label}" for label in _SIZES
    )
    heading = f"<p style='font:16px sans-serif;margin:8px'>{legend}</p>"
    page.parent.mkdir(parents=True, exist_ok=True)
    text = f"<!doctype html><html><head>{title}</head><body>{heading}{html}</body></html>"
    page.write_text(text, encoding="utf-8")
