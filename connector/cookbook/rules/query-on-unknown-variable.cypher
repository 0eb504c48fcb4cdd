// Every query on a record names a variable of the record's form.
MATCH (r:Record {study_key: $study})-[:HAS_QUERY]->(q:Query)
WHERE q.variable <> '' AND r.form_id IS NOT NULL
OPTIONAL MATCH (f:Form {study_key: $study, form_id: r.form_id})-[:HAS_VARIABLE]->(v:Variable)
WHERE toLower(toStringOrNull(v.variable_name)) = toLower(toStringOrNull(q.variable))
WITH q, r, v WHERE v IS NULL
RETURN q.annotation_id AS query, r.record_id AS record, r.form_key AS form_key, q.variable AS variable
ORDER BY query
