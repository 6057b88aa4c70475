-- name: memory_leak_oom
-- title: Memory grows towards its limit
-- tables: resources, series, events
-- param: horizon_seconds float64 = 900 -- a kill within this time counts
-- param: lookback_seconds float64 = 3600 -- rows older than this are not looked at
-- param: recent_seconds float64 = 300 -- a kill this recent is reported by itself
-- param: critical_probability float64 = 0.5 -- from here on critical
-- param: warning_probability float64 = 0.3 -- from here on a warning
-- remedy: Immediate: raise the memory limit of the subject, it buys time in proportion to the growth
-- remedy: Immediate: restart the subject in a quiet moment, the growth starts again from the bottom
-- remedy: Long-term: find what keeps the memory: profile the process with the largest growth, or look at what changed when the growth began
--
-- What counts is limit - headroom: it reaches the limit when this cgroup or one above it does, whichever comes first.
-- A cheap screen (exact least squares over the window and over its last minute) decides who gets the full forecast over
-- the whole window; for all others the last two minutes are enough to say that nothing is coming.
-- Where the process that grows has a limit of its own that comes first (-Xmx, --max-old-space-size), an OOM kill is not
-- predicted: its heap ends there (process_limit_exhaustion says when). A tenth of the limit is left for what is not heap.
WITH subject AS (
  SELECT series_id, CAST(max(node) AS VARCHAR) AS node, CAST(max(cgroup) AS VARCHAR) AS cgroup
  FROM series
  WHERE kind IN ('cgroup', 'unit', 'pod', 'container', 'node')
  GROUP BY series_id
), screen AS (
  SELECT series_id, tapio_last(ts, memory_limit_bytes - memory_headroom_bytes, memory_limit_bytes) AS newest,
    tapio_trend(ts, memory_limit_bytes - memory_headroom_bytes) AS trend,
    tapio_trend(ts, memory_limit_bytes - memory_headroom_bytes)
      FILTER (WHERE ts > $as_of - INTERVAL '1 minute') AS recent_trend,
    max(ts) AS last_ts
  FROM resources
  WHERE ts > tapio_ago($as_of, $lookback_seconds) AND memory_limit_bytes IS NOT NULL
    AND memory_headroom_bytes IS NOT NULL
  GROUP BY series_id
), heading AS (
  SELECT series_id, CASE WHEN newest['c1'] >= 0.8 * newest['c2']
      OR newest['c1'] + 4 * $horizon_seconds * greatest(coalesce(trend, 0.0), coalesce(recent_trend, 0.0), 0.0)
        >= newest['c2']
    THEN tapio_ago($as_of, $lookback_seconds)
    ELSE last_ts - INTERVAL '2 minutes' END AS since
  FROM screen
), forecast AS (
  SELECT r.series_id, min(r.ts) AS first_ts, max(r.ts) AS last_ts,
    tapio_forecast(r.series_id, r.ts, r.memory_limit_bytes - r.memory_headroom_bytes, r.memory_limit_bytes, $as_of,
      $horizon_seconds) AS f
  FROM heading h JOIN resources r ON r.series_id = h.series_id
  WHERE r.ts > tapio_ago($as_of, $lookback_seconds) AND r.ts > h.since
    AND r.memory_limit_bytes IS NOT NULL AND r.memory_headroom_bytes IS NOT NULL
  GROUP BY r.series_id
), event AS (
  SELECT series_id,
    array_agg(tapio_fact(id, ts, message) ORDER BY ts, id) FILTER (WHERE kind = 'change.config') AS changes,
    array_agg(tapio_fact(id, ts, message) ORDER BY ts, id) FILTER (WHERE kind = 'oom.kill') AS kills,
    max(ts) FILTER (WHERE kind = 'oom.kill') AS last_kill,
    sum(coalesce(value, 1.0)) FILTER (WHERE kind = 'oom.kill'
      AND ts > tapio_ago($as_of, $recent_seconds)) AS recent_kills
  FROM events
  WHERE kind IN ('oom.kill', 'change.config') AND ts > tapio_ago($as_of, $lookback_seconds)
    AND series_id IS NOT NULL
  GROUP BY series_id
), process AS (
  SELECT series_id, CAST(max(name) AS VARCHAR) AS name, CAST(max(node) AS VARCHAR) AS node, max(pid) AS pid,
    CAST(max(cgroup) AS VARCHAR) AS cgroup,
    -- That of Go is soft.
    CAST(max(CASE WHEN runtime <> 'go' THEN heap_limit_option END) AS VARCHAR) AS heap_option
  FROM series
  WHERE kind = 'process'
  GROUP BY series_id
), growth AS (
  SELECT p.node, unnest(tapio_ancestors(p.cgroup)) AS cgroup, p.name, p.pid, g.slope, g.series_id, p.heap_option,
    CASE WHEN p.heap_option IS NOT NULL THEN g.own['c2'] - g.own['c1'] END AS heap_room,
    -- Code, stacks and buffers lie beside the heap; who is further above its limit is not held by it.
    greatest(67108864, 0.1 * g.own['c2']) AS beside_heap
  FROM (
    SELECT series_id, tapio_trend(ts, memory_rss_bytes) AS slope, tapio_last(ts, memory_rss_bytes, heap_limit_bytes) AS own
    FROM resources
    WHERE ts > tapio_ago($as_of, $lookback_seconds) AND memory_limit_bytes IS NULL
    GROUP BY series_id
  ) g JOIN process p ON p.series_id = g.series_id
  WHERE g.slope > 0
), grower AS (
  SELECT node, cgroup, name, pid, slope, heap_option, heap_room, beside_heap
  FROM (
    SELECT *, row_number() OVER (PARTITION BY node, cgroup ORDER BY slope DESC, series_id) AS place FROM growth
  )
  WHERE place = 1
), joined AS (
  SELECT f.series_id, f.f, f.first_ts, f.last_ts, e.changes, e.kills, e.last_kill, e.recent_kills,
    g.name AS grower, g.pid AS grower_pid, g.slope AS grower_slope,
    extract(epoch FROM $as_of) - extract(epoch FROM e.last_kill) AS kill_age,
    e.recent_kills IS NOT NULL AS killed,
    -- At the end of the heap all else has grown as it does now.
    CASE WHEN f.f['probability'] >= $warning_probability AND g.heap_room > -g.beside_heap
        AND f.f['level'] + greatest(g.heap_room, 0.0) * greatest(c.trend / g.slope, 1.0) <= 0.9 * f.f['threshold']
      THEN 'growth of ' || g.name || ' (pid ' || CAST(g.pid AS VARCHAR) || ') ends at its own limit ' || g.heap_option
        || ', before that of the cgroup; pid:' || CAST(g.pid AS VARCHAR) || ' is the target that says when' END AS ends_before
  FROM forecast f
  JOIN screen c ON c.series_id = f.series_id
  JOIN subject s ON s.series_id = f.series_id
  LEFT JOIN event e ON e.series_id = f.series_id
  LEFT JOIN grower g ON g.node = s.node AND g.cgroup = s.cgroup
), judged AS (
  SELECT *, ends_before IS NULL AS foreseen, coalesce(f['cannot_say'], ends_before) AS no_prediction,
    CASE WHEN ends_before IS NOT NULL THEN NULL
         WHEN f['probability'] >= $critical_probability THEN 'critical'
         WHEN f['probability'] >= $warning_probability THEN 'warning' END AS predicted
  FROM joined
), finding AS (
  -- The prediction, with or without an alarm; a recent kill takes its place in the report where there is no alarm.
  SELECT *, predicted IS NOT NULL AS is_alarm, predicted IS NULL AND killed AS is_kill, true AS says FROM judged
  UNION ALL
  SELECT *, false AS is_alarm, true AS is_kill, false AS says FROM judged WHERE predicted IS NOT NULL AND killed
)
SELECT series_id,
  CASE WHEN is_kill THEN last_kill ELSE coalesce(f['segment_start'], first_ts) END AS window_start,
  CASE WHEN is_kill THEN last_kill ELSE last_ts END AS window_end,
  CASE WHEN is_kill THEN 'error' ELSE predicted END AS severity,
  CASE WHEN is_kill THEN recent_kills WHEN foreseen THEN f['probability'] END AS score,
  CASE WHEN is_kill THEN 'OOM kill ' || tapio_format_duration(kill_age) || ' ago'
       WHEN f['eta_seconds'] IS NOT NULL THEN 'OOM predicted in ' || tapio_format_duration(f['eta_seconds'])
       ELSE 'OOM possible within ' || tapio_format_duration(f['horizon_seconds']) END AS title,
  CASE WHEN is_kill THEN 'The kernel killed ' || CAST(CAST(recent_kills AS BIGINT) AS VARCHAR)
         || ' process(es) here for lack of memory in the last ' || tapio_format_duration($recent_seconds)
       WHEN no_prediction IS NOT NULL THEN 'No prediction: ' || no_prediction
       ELSE CASE WHEN f['slope_per_second'] > 0
           THEN 'Memory grows at ' || tapio_format_bytes(f['slope_per_second']) || '/s over the last '
             || tapio_format_duration(f['window_seconds'])
           ELSE 'Memory does not grow over the last ' || tapio_format_duration(f['window_seconds']) END
         || ' and is ' || tapio_format_bytes(f['threshold'] - f['level']) || ' below the limit of '
         || tapio_format_bytes(f['threshold']) END AS detail,
  tapio_evidence(
    CASE WHEN is_alarm THEN tapio_fact(NULL, last_ts, 'memory grows at ' || tapio_format_bytes(f['slope_per_second'])
      || '/s, measured over ' || CAST(f['samples'] AS VARCHAR) || ' samples in '
      || tapio_format_duration(f['window_seconds'])) END,
    CASE WHEN is_alarm THEN tapio_fact(NULL, last_ts, 'level ' || tapio_format_bytes(f['level']) || ' of '
      || tapio_format_bytes(f['threshold']) || ', headroom ' || tapio_format_bytes(f['threshold'] - f['level'])) END,
    CASE WHEN is_alarm THEN tapio_fact(NULL, last_ts, 'largest growth: process ' || grower || ' (pid '
      || CAST(grower_pid AS VARCHAR) || ') at ' || tapio_format_bytes(grower_slope) || '/s') END,
    CASE WHEN is_alarm THEN changes END,
    CASE WHEN is_alarm OR is_kill THEN kills END) AS evidence,
  CASE WHEN says THEN 'oom' END AS "type",
  CASE WHEN says AND foreseen THEN f['eta_seconds'] END AS eta_seconds,
  CASE WHEN says AND foreseen THEN f['eta_low80_seconds'] END AS eta_low_seconds,
  CASE WHEN says AND foreseen THEN f['eta_high80_seconds'] END AS eta_high_seconds,
  CASE WHEN says AND foreseen THEN f['eta_low99_seconds'] END AS eta_low99_seconds,
  CASE WHEN says AND foreseen THEN f['eta_high99_seconds'] END AS eta_high99_seconds,
  CASE WHEN says AND foreseen THEN f['probability'] END AS probability,
  CASE WHEN says THEN $horizon_seconds END AS horizon_seconds,
  CASE WHEN says THEN f['model'] END AS model,
  CASE WHEN says THEN f['window_seconds'] END AS window_seconds,
  CASE WHEN says THEN f['samples'] END AS samples,
  CASE WHEN says THEN f['slope_per_second'] END AS slope_per_second,
  CASE WHEN says THEN no_prediction END AS cannot_say
FROM finding
ORDER BY series_id, window_start
