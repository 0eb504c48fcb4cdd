// How many days after a visit are its records entered: median and maximum, by site?
MATCH (v:Visit {study_key: $study})-[:HAS_RECORD]->(r:Record)
WHERE v.visit_date =~ '\\d{4}-\\d\\d-\\d\\d.*' AND r.date_created =~ '\\d{4}-\\d\\d-\\d\\d.*' AND NOT r:Deleted
WITH r.site_id AS site_id,
     duration.inDays(date(substring(v.visit_date, 0, 10)), date(substring(r.date_created, 0, 10))).days AS days
OPTIONAL MATCH (site:Site {study_key: $study, site_id: site_id})
RETURN site.site_name AS site, count(*) AS records,
       percentileCont(days, 0.5) AS median_days, max(days) AS max_days
ORDER BY site
