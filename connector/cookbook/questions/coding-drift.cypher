// Which terms are coded with more than one dictionary version?
MATCH (c:Coding {study_key: $study})
WHERE NOT c:Deleted
WITH c.dictionary_name AS dictionary, toLower(toString(c.value)) AS term,
     c.dictionary_version AS version, count(*) AS codings
ORDER BY version
WITH dictionary, term, collect(version) AS versions, sum(codings) AS codings
WHERE size(versions) > 1
RETURN dictionary, term, versions, codings
ORDER BY codings DESC, term
