// How many days after a visit are its records entered: median and maximum, by site?
// Entries have times in UTC, visits have the site's date: an evening may count as the next day.
MATCH (v:Visit {study_key: $study})-[:HAS_RECORD]->(r:Record)
WHERE v.visit_id IS NOT NULL AND NOT v:Deleted AND NOT coalesce(v.deleted = true, false)
  AND NOT r:Deleted AND NOT coalesce(r.deleted = true, false)
WITH r.site_id AS site_id, [text IN [v.visit_date, r.date_created] WHERE text =~ '\\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01]).*' |
     date(left(text, 8) + '01') + duration({days: toInteger(substring(text, 8, 2)) - 1})] AS dates
WITH site_id, duration.inDays(dates[0], dates[1]).days AS days WHERE size(dates) = 2
WITH site_id, count(*) AS records, percentileCont(days, 0.5) AS median_days, max(days) AS max_days
OPTIONAL MATCH (site:Site {study_key: $study, site_id: site_id})
RETURN site.site_name AS site, records, median_days, max_days
ORDER BY site
