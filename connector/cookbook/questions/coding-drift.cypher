// Which terms are coded with more than one dictionary version?
MATCH (c:Coding {study_key: $study})
WHERE c.coding_id IS NOT NULL AND NOT c:Deleted AND trim(coalesce(toStringOrNull(c.dictionary_version), '')) <> ''
  AND NOT EXISTS { MATCH (r:Record)-[:HAS_CODING]->(c) WHERE r:Deleted OR r.deleted = true }
WITH c.dictionary_name AS dictionary, toLower(toStringOrNull(c.value)) AS term,
     c.dictionary_version AS version, count(*) AS codings
ORDER BY version
WITH dictionary, term, collect(version) AS versions, sum(codings) AS codings
WHERE size(versions) > 1
RETURN dictionary, term, versions, codings
ORDER BY codings DESC, term
