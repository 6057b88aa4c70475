-- name: tapio_growth
-- title: How the memory of a target grew, up to its newest OOM kill or up to now
-- param: target text = '' -- as in tapio_targets
-- param: lookback_seconds float64 = 3600 -- rows older than this are not looked at
WITH target AS (
  SELECT * FROM tapio_targets($target)
  WHERE subject_kind <> 'process' AND (coalesce($target, '') <> '' OR last_seen IS NOT NULL)
), kill AS (
  SELECT series_id, max(ts) AS kill_ts
  FROM events
  WHERE kind = 'oom.kill' AND ts > tapio_ago($as_of, $lookback_seconds)
  GROUP BY series_id
), ends AS (
  SELECT t.series_id, t.node, t.cgroup,
    CASE WHEN k.kill_ts IS NULL THEN $as_of ELSE k.kill_ts - INTERVAL '1 millisecond' END AS until
  FROM target t LEFT JOIN kill k ON k.series_id = t.series_id
), said AS (
  SELECT e.series_id, max(e.node) AS node, max(e.cgroup) AS cgroup, max(e.until) AS until,
    tapio_forecast(r.series_id, r.ts, coalesce(r.memory_limit_bytes - r.memory_headroom_bytes, r.memory_level_bytes),
      coalesce(r.memory_limit_bytes, r.memory_level_bytes + r.memory_headroom_bytes), e.until, 900.0) AS f
  FROM ends e JOIN resources r ON r.series_id = e.series_id AND r.ts <= e.until
  WHERE r.ts > tapio_ago($as_of, $lookback_seconds) AND r.memory_headroom_bytes IS NOT NULL
  GROUP BY e.series_id
)
SELECT s.series_id, max(s.node) AS node, max(s.cgroup) AS cgroup, max(s.until) AS until,
  max(f['segment_start']) AS segment_start, max(f['slope_per_second']) AS slope, max(f['level']) AS level,
  max(f['threshold']) AS threshold, max(f['samples']) AS samples, max(f['window_seconds']) AS window_seconds,
  max(f['residual_scale']) AS residual_scale, max(f['eta_seconds']) AS eta_seconds,
  max(f['probability']) AS probability, max(f['cannot_say']) AS no_growth,
  tapio_trend(r.ts, r.memory_level_bytes) AS level_slope,
  max(f['slope_per_second'] > 0
    AND f['slope_per_second'] * f['window_seconds'] >= 4 * f['residual_scale']
    AND f['slope_per_second'] * f['window_seconds'] >= 0.01 * f['threshold']) AS proven
FROM said s LEFT JOIN resources r ON r.series_id = s.series_id AND r.ts >= f['segment_start'] AND r.ts <= s.until
GROUP BY s.series_id
ORDER BY s.series_id
