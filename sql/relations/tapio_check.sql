-- name: tapio_check
-- title: How the subjects of a target are, what is predicted for them and what was found
-- param: target text = '' -- as in tapio_targets
--
-- One row per subject and finding; a subject without finding has one row, with its prediction if there is one and a NULL
-- pattern. Without a target processes without finding are left out: name one as pid:N. So are the dates of certificates
-- that are valid for another 90 days: the certificate has a row, its date is in not_after.
WITH subject AS (
  SELECT * FROM tapio_targets($target) WHERE coalesce($target, '') <> '' OR last_seen IS NOT NULL
), latest AS (
  SELECT series_id,
    tapio_last(ts, memory_usage_bytes, memory_working_set_bytes, memory_rss_bytes, memory_level_bytes,
      memory_limit_bytes, memory_headroom_bytes, pids, pids_limit, restarts, oom_kills, fds, fds_limit,
      heap_limit_bytes) AS r,
    tapio_trend(ts, cpu_usage_us) FILTER (WHERE ts > $as_of - INTERVAL '1 minute') AS cpu_us_per_second
  FROM resources
  WHERE ts > $as_of - INTERVAL '5 minutes'
  GROUP BY series_id
), disk AS (
  SELECT series_id, tapio_last(ts, used_bytes, available_bytes, inodes_used, inodes_limit) AS d
  FROM disks
  WHERE ts > $as_of - INTERVAL '5 minutes'
  GROUP BY series_id
), finding AS (
  SELECT * FROM tapio_findings()
  WHERE coalesce($target, '') <> '' OR "type" IS NULL OR "type" <> 'cert_expiry' OR severity IS NOT NULL
    OR eta_seconds < 90 * 86400
), joined AS (
  SELECT s.*, coalesce(r['ts'], d['ts'], CASE WHEN s.subject_kind = 'certificate' THEN s.last_seen END) AS ts,
    extract(epoch FROM $as_of) - extract(epoch FROM coalesce(r['ts'], d['ts'], s.last_seen)) AS age_seconds,
    r['c1'] AS memory_usage_bytes, r['c2'] AS memory_working_set_bytes, r['c3'] AS memory_rss_bytes,
    r['c4'] AS memory_level_bytes, r['c5'] AS memory_limit_bytes, r['c6'] AS memory_headroom_bytes,
    cpu_us_per_second / 10000.0 AS cpu_percent, r['c7'] AS pids, r['c8'] AS pids_limit, r['c9'] AS restarts,
    r['c10'] AS oom_kills, r['c11'] AS fds, r['c12'] AS fds_limit, r['c13'] AS heap_limit_bytes,
    d['c1'] AS disk_used_bytes, d['c2'] AS disk_available_bytes, d['c3'] AS inodes_used, d['c4'] AS inodes_limit,
    max(CASE f.severity WHEN 'critical' THEN 3 WHEN 'error' THEN 3 WHEN 'warning' THEN 2 ELSE 0 END)
      OVER (PARTITION BY s.series_id) AS worst,
    f."type", f.eta_seconds, f.eta_low_seconds, f.eta_high_seconds, f.eta_low99_seconds, f.eta_high99_seconds,
    f.probability, f.horizon_seconds, f.model, f.window_seconds, f.samples, f.slope_per_second, f.cannot_say,
    f.insight_id, f.pattern, f.severity, f.score, f.title, f.detail, f.window_start, f.window_end, f.evidence, f.made_by
  FROM subject s LEFT JOIN latest l ON l.series_id = s.series_id LEFT JOIN disk d ON d.series_id = s.series_id
  LEFT JOIN finding f ON f.series_id = s.series_id
)
SELECT series_id, workload_id, subject_kind, namespace, name, container, node, cgroup, unit, pid, workload, first_seen,
  last_seen, active, ts, age_seconds, memory_usage_bytes, memory_working_set_bytes, memory_rss_bytes,
  memory_level_bytes, memory_limit_bytes, memory_headroom_bytes, cpu_percent, pids, pids_limit, restarts, oom_kills,
  fds, fds_limit, heap_limit_bytes, disk_used_bytes, disk_available_bytes, inodes_used, inodes_limit,
  not_before, not_after,
  CASE WHEN worst = 3 THEN 'unhealthy'
       WHEN subject_kind = 'certificate' THEN CASE WHEN NOT active OR not_after <= $as_of THEN 'unknown'
         WHEN worst = 2 THEN 'degraded' ELSE 'healthy' END
       WHEN age_seconds IS NULL OR age_seconds > 30 THEN 'unknown'
       WHEN worst = 2 THEN 'degraded'
       ELSE 'healthy' END AS status,
  "type", eta_seconds, eta_low_seconds, eta_high_seconds, eta_low99_seconds, eta_high99_seconds, probability,
  horizon_seconds, CAST(NULL AS DOUBLE) AS confidence_rate, CAST(NULL AS BIGINT) AS confidence_n, model,
  window_seconds, samples, slope_per_second,
  CASE WHEN made_by IS NULL AND subject_kind NOT IN ('process', 'filesystem', 'certificate') THEN 'no memory limit is set'
    ELSE cannot_say END AS cannot_say,
  insight_id, pattern, severity, score,
  CASE WHEN pattern IS NOT NULL THEN title END AS title, CASE WHEN pattern IS NOT NULL THEN detail END AS detail,
  CASE WHEN pattern IS NOT NULL THEN window_start END AS window_start,
  CASE WHEN pattern IS NOT NULL THEN window_end END AS window_end,
  CASE WHEN pattern IS NOT NULL THEN evidence END AS evidence, path
FROM joined
WHERE coalesce($target, '') <> '' OR subject_kind <> 'process' OR pattern IS NOT NULL
ORDER BY worst DESC, CASE severity WHEN 'critical' THEN 0 WHEN 'error' THEN 1 WHEN 'warning' THEN 2 ELSE 3 END,
  probability DESC NULLS LAST, not_after NULLS LAST, node, cgroup, name, series_id, made_by, insight_id
