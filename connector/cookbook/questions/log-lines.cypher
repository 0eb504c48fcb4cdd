// Which records have log lines or other records below them, and how many?
MATCH (child:Record {study_key: $study})-[:CHILD_OF]->(parent:Record)
WHERE child.record_id IS NOT NULL AND NOT child:Deleted AND NOT coalesce(child.deleted = true, false)
WITH child, parent ORDER BY child.record_id
RETURN parent.record_id AS parent, parent.form_key AS form, count(child) AS lines,
       collect(child.record_id)[..10] AS first_lines
ORDER BY lines DESC, parent
