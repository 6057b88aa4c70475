-- name: tapio_targets
-- title: The subjects that a target names
-- param: target text = '' -- pid:N, disk:PATH, cert:PATH, a cgroup path, ns/kind/name, kind/name, ns/name or a bare name; '' is everything
--
-- Only matches of the best kind are returned (match_rank says which), and of several lives of one workload the newest.
-- last_seen looks back one hour, for certificates two looks; it is NULL for what was last seen before.
WITH labels AS (
  SELECT series_id, workload_id, min(ts) AS first_seen,
    CAST(max(kind) AS VARCHAR) AS subject_kind, CAST(max(name) AS VARCHAR) AS name,
    CAST(max(node) AS VARCHAR) AS node, CAST(max(namespace) AS VARCHAR) AS namespace,
    CAST(max(workload) AS VARCHAR) AS workload, CAST(max(pod) AS VARCHAR) AS pod,
    CAST(max(container) AS VARCHAR) AS container, CAST(max(unit) AS VARCHAR) AS unit,
    CAST(max(cgroup) AS VARCHAR) AS cgroup, max(pid) AS pid, CAST(max(path) AS VARCHAR) AS path
  FROM series
  GROUP BY series_id, workload_id
), ranked AS (
  SELECT *, CASE
      WHEN coalesce($target, '') = '' THEN 0
      WHEN $target LIKE 'pid:%' THEN
        CASE WHEN pid IS NOT NULL AND subject_kind = 'process' AND 'pid:' || CAST(pid AS VARCHAR) = $target THEN 1 END
      WHEN $target LIKE 'disk:%' THEN CASE WHEN subject_kind = 'filesystem' AND 'disk:' || name = $target THEN 1 END
      WHEN $target LIKE 'cert:%' THEN CASE WHEN subject_kind = 'certificate' AND 'cert:' || path = $target THEN 1 END
      WHEN subject_kind <> 'process' AND cgroup <> '/' AND cgroup = '/' || trim(BOTH '/' FROM $target) THEN 2
      WHEN subject_kind <> 'process' AND cgroup = '/' AND $target = '/' THEN 2
      WHEN subject_kind <> 'process' AND namespace || '/' || workload = $target THEN 3
      WHEN subject_kind <> 'process' AND workload = $target THEN 4
      WHEN subject_kind <> 'process' AND (namespace || '/' || pod = $target
        OR namespace || '/' || split_part(workload, '/', 2) = $target) THEN 5
      WHEN subject_kind <> 'process' AND split_part(workload, '/', 2) = $target THEN 6
      WHEN subject_kind <> 'process' AND pod = $target THEN 7
      WHEN subject_kind = 'unit' AND (unit = $target OR unit = $target || '.service') THEN 8
      WHEN subject_kind IN ('cgroup', 'container', 'unit', 'pod') AND (name = $target
        OR substr(cgroup, length(cgroup) - length($target)) = '/' || $target) THEN 9
      WHEN subject_kind = 'node' AND (node = $target OR name = $target) THEN 10
      WHEN subject_kind = 'filesystem' AND name = $target THEN 11
      WHEN subject_kind = 'certificate' AND (name = $target OR path = $target) THEN 12
    END AS match_rank
  FROM labels
), best AS (
  SELECT min(match_rank) AS match_rank FROM ranked
), seen AS (
  SELECT series_id, max(ts) AS last_seen, last_value(not_before ORDER BY ts) AS not_before,
    last_value(not_after ORDER BY ts) AS not_after, CAST(NULL AS DOUBLE) AS cadence
  FROM certificates
  WHERE ts > tapio_ago($as_of, 7500)
  GROUP BY series_id
  UNION ALL
  SELECT series_id, max(ts), NULL, NULL, (extract(epoch FROM max(ts)) - extract(epoch FROM min(ts))) / greatest(count(*) - 1, 1)
  FROM (SELECT series_id, ts FROM resources UNION ALL SELECT series_id, ts FROM disks)
  WHERE ts > $as_of - INTERVAL '1 hour'
  GROUP BY series_id
), lives AS (
  SELECT r.*, s.last_seen, s.not_before, s.not_after,
    -- A look tells all certificates there are: what is not in the newest one is gone.
    coalesce(s.last_seen >= CASE WHEN subject_kind = 'certificate'
      THEN max(s.last_seen) OVER (PARTITION BY r.node, r.subject_kind)
      ELSE tapio_ago($as_of, greatest(30.0, 3 * s.cadence)) END, false) AS active,
    row_number() OVER (PARTITION BY r.workload_id
      ORDER BY coalesce(s.last_seen, r.first_seen) DESC, r.first_seen DESC, r.series_id) AS life
  FROM ranked r JOIN best USING (match_rank) LEFT JOIN seen s ON s.series_id = r.series_id
)
SELECT series_id, workload_id, subject_kind, namespace, name, container, node, cgroup, unit, pid, workload, first_seen,
  last_seen, active, CAST(match_rank AS BIGINT) AS match_rank, path, not_before,
  not_after
FROM lives
WHERE life = 1
ORDER BY node, cgroup, subject_kind, name, pid, series_id
