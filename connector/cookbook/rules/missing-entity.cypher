// Everything that is referred to for more than a day exists in the API.
MATCH (missing:Study|Site|Form|Interval|Subject|Visit|Record {study_key: $study})-[r]-(owner)
WHERE missing._version IS NULL AND owner._version < timestamp() - 86400000
WITH missing, owner ORDER BY owner._version
WITH missing, head(collect(owner)) AS owner
RETURN labels(missing)[0] AS missing, properties(missing) AS key,
       labels(owner)[0] AS named_by, datetime({epochMillis: owner._version}) AS since
ORDER BY missing, since
