// Which queries were opened again after they had been closed, and how often?
MATCH (q:Query {study_key: $study})-[:HAS_COMMENT]->(c:QueryComment)
WHERE q.annotation_id IS NOT NULL AND NOT q:Deleted
WITH q, c ORDER BY coalesce(c.sequence, c.position)
WITH q, [each IN collect(c) | coalesce(each.closed = true, false)] AS closed
WITH q, size([i IN range(1, size(closed) - 1) WHERE closed[i - 1] AND NOT closed[i]]) AS reopened
WHERE reopened > 0
RETURN q.annotation_id AS query, q.record_id AS record, q.variable AS variable, reopened
ORDER BY reopened DESC, query
