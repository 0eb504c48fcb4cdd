// No record, subject, visit or query was modified before it was created.
MATCH (n:Record|Subject|Visit|Query {study_key: $study})
WHERE n.date_modified <> '' AND n.date_modified < n.date_created
RETURN labels(n)[0] AS label, coalesce(n.annotation_id, n.record_id, n.visit_id, n.subject_id) AS id,
       n.date_created AS created, n.date_modified AS modified
ORDER BY label, id
