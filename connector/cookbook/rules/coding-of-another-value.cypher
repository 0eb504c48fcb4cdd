// A coding is of the value that its record has now.
MATCH (r:Record {study_key: $study})-[:HAS_CODING]->(c:Coding)
WHERE r._version IS NOT NULL AND NOT r:Deleted AND NOT coalesce(r.deleted = true, false) AND NOT c:Deleted
WITH r, c, [name IN keys(r) WHERE toLower(name) IN [toLower(toStringOrNull(c.variable)), 'var_' + toLower(toStringOrNull(c.variable))]][0] AS name
WITH r, c, coalesce(toStringOrNull(r[name]), '') AS value, coalesce(toStringOrNull(c.value), '') AS coded
WHERE name IS NULL OR value <> coded AND NOT coalesce(toFloatOrNull(value) = toFloatOrNull(coded), false)
RETURN c.coding_id AS coding, r.record_id AS record, c.variable AS variable
ORDER BY coding
