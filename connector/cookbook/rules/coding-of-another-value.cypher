// A coding is of the value that its record has now.
MATCH (r:Record {study_key: $study})-[:HAS_CODING]->(c:Coding)
WHERE NOT r:Deleted
WITH r, c, [name IN keys(r) WHERE toLower(name) IN [toLower(c.variable), 'var_' + toLower(c.variable)]][0] AS name
WITH r, c, r[name] AS value WHERE value IS NULL
  OR coalesce(toStringOrNull(value), '') <> coalesce(toStringOrNull(c.value), '')
RETURN c.coding_id AS coding, r.record_id AS record, c.variable AS variable
ORDER BY coding
