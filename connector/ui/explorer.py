"""Reads one study's graph for people: sites, subjects, visits, records and what belongs to them."""

from collections.abc import Sequence
from typing import Any

from connector.model.entities import ENTITIES, NODE_KEYS
from connector.model.entity import snake_case
from connector.neo4j.database import Neo4jDatabase
from connector.neo4j.reader import to_native
from connector.neo4j.statement import ROWS

PAGE = 50
_NODES_MAX = 300
_STUDIES = """
MATCH (s:Study)
RETURN s.study_key AS key, s.study_name AS name,
       COUNT { (s)-[:HAS_SITE]->() } AS sites, COUNT { (s)-[:HAS_SUBJECT]->() } AS subjects
ORDER BY key LIMIT 500
"""
_SITES = """
MATCH (:Study {study_key: $study})-[:HAS_SITE]->(n:Site)
RETURN n.site_id AS id, n.site_name AS name, n.site_enrollment_status AS status,
       COUNT { (n)<-[:AT_SITE]-(:Subject) } AS subjects
ORDER BY name LIMIT 2000
"""
_SUBJECTS = f"""
MATCH (n:Subject {{study_key: $study}})
WHERE n.subject_id IS NOT NULL AND n._version IS NOT NULL AND NOT n:Deleted
  AND ($site IS NULL OR n.site_id = $site)
  AND ({ROWS}[0] = '' OR n.subject_key STARTS WITH {ROWS}[0])
RETURN n.subject_id AS id, n.subject_key AS key, n.subject_status AS status, n.site_name AS site,
       COUNT {{ (n)-[:HAS_VISIT]->() }} AS visits,
       COUNT {{ (n)-[:HAS_VISIT|HAS_RECORD*0..2]->()-[:HAS_QUERY]->() }} AS queries
ORDER BY key, id SKIP $skip LIMIT $limit
"""
_SUBJECT = "MATCH (n:Subject {study_key: $study, subject_id: $id}) RETURN n{.*} AS n"
_VISITS = """
MATCH (:Subject {study_key: $study, subject_id: $id})-[:HAS_VISIT]->(v:Visit)
OPTIONAL MATCH (v)-[:IN_INTERVAL]->(i:Interval)
RETURN v.visit_id AS id, v.interval_name AS name, v.visit_date AS date,
       coalesce(v.deleted = true, false) AS deleted
ORDER BY i.interval_sequence, date, id
"""
_RECORDS = """
MATCH (s:Subject {study_key: $study, subject_id: $id})
CALL (s) {
  MATCH (s)-[:HAS_VISIT]->(v)-[:HAS_RECORD]->(r:Record) RETURN v.visit_id AS visit, r
  UNION ALL
  MATCH (s)-[:HAS_RECORD]->(r:Record) RETURN null AS visit, r
}
OPTIONAL MATCH (f:Form {study_key: $study, form_id: r.form_id})
RETURN visit, r.record_id AS id, r.form_key AS form, f.form_name AS form_name,
       r.record_status AS status, r:Deleted OR coalesce(r.deleted = true, false) AS deleted,
       COUNT { (r)-[:HAS_QUERY]->() } AS queries
ORDER BY form, id LIMIT 5000
"""
_GRAPH = f"""
MATCH (s:Subject {{study_key: $study, subject_id: $id}})
OPTIONAL MATCH (s)-[:AT_SITE]->(site)
OPTIONAL MATCH (study:Study)-[:HAS_SUBJECT]->(s)
OPTIONAL MATCH (s)-[:HAS_VISIT|HAS_RECORD*1..2]->(own)
OPTIONAL MATCH (own)-[:HAS_QUERY|HAS_CODING]->(note)
WITH study, site, s, collect(DISTINCT own) AS owned, collect(DISTINCT note) AS notes
WITH study, site, s, [n IN [study, s, site] + owned + notes WHERE n IS NOT NULL] AS found
WITH site, s, found[..{_NODES_MAX}] AS picked, size(found[{_NODES_MAX}..]) AS left_out
UNWIND picked AS a
OPTIONAL MATCH (b)-->(a) WHERE (site IS NULL OR a <> site) AND b IN picked
WITH a, CASE WHEN a = site THEN s ELSE b END AS b, left_out
RETURN elementId(a), labels(a), properties(a), elementId(b), left_out
"""
"""Relationships are followed to their end: a study or a site has far too many that begin there."""
_RECORD = """
MATCH (n:Record {study_key: $study, record_id: $id})
OPTIONAL MATCH (v:Visit)-[:HAS_RECORD]->(n)
OPTIONAL MATCH (f:Form {study_key: $study, form_id: n.form_id})
OPTIONAL MATCH (s:Subject {study_key: $study, subject_id: n.subject_id})
RETURN n{.*} AS n, v.visit_id AS visit, v.interval_name AS visit_name, f.form_name AS form,
       s.subject_id AS subject, s.subject_key AS subject_key, n:Deleted AS vanished
LIMIT 1
"""
_REVISIONS = """
MATCH (:Record {study_key: $study, record_id: $id})-[:HAS_REVISION]->(r:RecordRevision)
RETURN r.record_revision AS revision, r.date_created AS date, r.user AS user, r.role AS role,
       r.reason_for_change AS reason, r.record_status AS status
ORDER BY revision DESC LIMIT 200
"""
_QUERIES = """
MATCH (:Record {study_key: $study, record_id: $id})-[:HAS_QUERY]->(q:Query)
OPTIONAL MATCH (q)-[:HAS_COMMENT]->(c:QueryComment)
WITH q, c ORDER BY coalesce(c.sequence, c.position)
WITH q, [c IN collect(c) | c{.annotation_status, .user, .comment, .closed, .date}] AS comments
RETURN q.annotation_id AS id, q.variable AS variable, q.description AS description,
       q.type AS type, q.date_created AS date, comments,
       NOT coalesce(comments[-1].closed = true, false) AS is_open
ORDER BY is_open DESC, date DESC LIMIT 200
"""
_CODINGS = """
MATCH (:Record {study_key: $study, record_id: $id})-[:HAS_CODING]->(c:Coding)
RETURN c.variable AS variable, c.value AS value, c.code AS code,
       c.dictionary_name AS dictionary, c.dictionary_version AS version, c.date_coded AS date
ORDER BY variable LIMIT 200
"""
_CAPTIONS = {"Study": "study_key", "Site": "site_name", "Subject": "subject_key",
             "Visit": "interval_name", "Record": "form_key", "Query": "variable",
             "Coding": "code"}  # fmt: skip
_RECORD_FIELDS = {"study_key", *map(snake_case, ENTITIES["record"].fields)}

Row = dict[str, Any]


class Explorer:
    """One database. Every call blocks, and raises as `Neo4jDatabase.read_table`."""

    def __init__(self, database: Neo4jDatabase) -> None:
        self._database = database

    def studies(self) -> list[Row]:
        """The studies, with the numbers of their sites and subjects."""
        return self._rows(_STUDIES)

    def sites(self, study: str) -> list[Row]:
        """The study's sites, with the number of their subjects."""
        return self._rows(_SITES, study=study)

    def subjects(
        self, study: str, site: int | None, find: str, page: int
    ) -> tuple[list[Row], bool]:
        """One page of the subjects whose key begins with ``find``, and whether more follow."""
        # Part of a key is content: it travels as rows do, which no log of the driver shows.
        found = self._rows(
            _SUBJECTS, [find], study=study, site=site, skip=page * PAGE, limit=PAGE + 1
        )
        return found[:PAGE], len(found) > PAGE

    def subject(self, study: str, subject: int) -> Row | None:
        """A subject with its visits, their records, and its records without a visit."""
        found = self._rows(_SUBJECT, study=study, id=subject)
        if not found:
            return None
        visits = {
            row["id"]: row | {"records": []} for row in self._rows(_VISITS, study=study, id=subject)
        }
        without_visit: list[Row] = []
        for record in self._rows(_RECORDS, study=study, id=subject):
            visit = visits.get(record["visit"])
            (visit["records"] if visit else without_visit).append(record)
        return {"fields": found[0]["n"], "visits": list(visits.values()), "records": without_visit}

    def graph(self, study: str, subject: int) -> Row:
        """A subject's graph: the ``elements`` of cytoscape.js, and how many nodes are left out."""
        nodes: dict[str, Row] = {}
        edges = []
        rows = self._database.read(_GRAPH, study=study, id=subject)
        for end, labels, properties, start, _ in rows:
            label = next((each for each in labels if each in NODE_KEYS), "")
            if end not in nodes:
                caption = properties.get(_CAPTIONS.get(label, "")) or label
                nodes[end] = {"id": end, "kind": label, "label": str(caption)}
                if label == "Record":
                    nodes[end]["record"] = properties["record_id"]
            if start is not None:
                edges.append({"data": {"source": start, "target": end}})
        elements = [{"data": node} for node in nodes.values()] + edges
        return {"elements": elements, "left_out": rows[0][-1] if rows else 0}

    def record(self, study: str, record: int) -> Row | None:
        """A record with its values, revisions, queries and codings."""
        found = self._rows(_RECORD, study=study, id=record)
        if not found:
            return None
        row = found[0]
        fields = {name: to_native(value) for name, value in row["n"].items()}
        values = {n: v for n, v in fields.items() if n not in _RECORD_FIELDS and n[0] != "_"}
        return row | {
            "fields": fields,
            "values": [(name, values[name], kind_of(values[name])) for name in sorted(values)],
            "revisions": self._rows(_REVISIONS, study=study, id=record),
            "queries": self._rows(_QUERIES, study=study, id=record),
            "codings": self._rows(_CODINGS, study=study, id=record),
        }

    def _rows(self, query: str, rows: Sequence[Any] = (), **parameters: Any) -> list[Row]:
        table = self._database.read_table(query, rows, **parameters)
        return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def kind_of(value: Any) -> str:
    """The type of a value, in words."""
    names = {"bool": "boolean", "int": "integer", "float": "number", "str": "text", "list": "list"}
    return names.get(type(value).__name__, type(value).__name__)
