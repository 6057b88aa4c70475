-- name: tapio_exhaustion
-- title: Filesystems, inodes, pids, file descriptors and heaps that head for their limit, in the form of a pattern's findings
-- param: types text = 'disk_full inodes pids fds heap' -- which of them, separated by spaces
-- param: horizon_seconds float64 = 900 -- the probability is that of reaching the limit within this time
-- param: lookback_seconds float64 = 3600 -- rows older than this are not looked at
-- param: critical_probability float64 = 0.5 -- from here on critical
-- param: warning_probability float64 = 0.3 -- from here on a warning
--
-- One row per subject and type. Every filesystem has one; of all else only what the cheap screen lets through: in use by
-- four fifths, or growing so that four horizons are enough.
--
-- A heap is that of a runtime with a limit of its own. How full it is only the runtime knows: the resident memory of the
-- process, which has other memory too, stands for it and meets the limit a little before. A collector may let the heap grow
-- to its limit and live there, so this is never more than a warning, and nothing is said of a process at or above it.
WITH use AS (
  -- ext4 without reserved blocks refuses to write while a few KiB are left: with less than 64 KiB a disk is full,
  -- and one that never has so much is not looked at.
  SELECT series_id, ts, 'disk_full' AS "type", used_bytes AS level, used_bytes + available_bytes - 65536 AS most
  FROM disks
  WHERE ts > tapio_ago($as_of, $lookback_seconds) AND used_bytes + available_bytes > 65536 AND $types LIKE '%disk_full%'
  UNION ALL
  SELECT series_id, ts, 'inodes', inodes_used, inodes_limit
  FROM disks
  WHERE ts > tapio_ago($as_of, $lookback_seconds) AND inodes_limit > 0 AND $types LIKE '%inodes%'
  UNION ALL
  SELECT series_id, ts, 'pids', pids, pids_limit
  FROM resources
  WHERE ts > tapio_ago($as_of, $lookback_seconds) AND pids IS NOT NULL AND pids_limit > 0 AND $types LIKE '%pids%'
  UNION ALL
  SELECT series_id, ts, 'fds', fds, fds_limit
  FROM resources
  WHERE ts > tapio_ago($as_of, $lookback_seconds) AND fds IS NOT NULL AND fds_limit > 0 AND $types LIKE '%fds%'
  UNION ALL
  SELECT series_id, ts, 'heap', memory_rss_bytes, heap_limit_bytes
  FROM resources
  WHERE ts > tapio_ago($as_of, $lookback_seconds) AND memory_rss_bytes IS NOT NULL AND heap_limit_bytes > 0
    AND $types LIKE '%heap%'
), option AS (
  SELECT series_id, CAST(max(runtime) AS VARCHAR) AS runtime, CAST(max(heap_limit_option) AS VARCHAR) AS heap_limit_option
  FROM series
  WHERE heap_limit_option IS NOT NULL
  GROUP BY series_id
), screen AS (
  SELECT series_id, "type", tapio_last(ts, level, most) AS newest, tapio_trend(ts, level) AS trend,
    tapio_trend(ts, level) FILTER (WHERE ts > $as_of - INTERVAL '1 minute') AS recent_trend, max(ts) AS last_ts
  FROM use
  GROUP BY series_id, "type"
), heading AS (
  SELECT series_id, "type", newest['c1'] >= newest['c2'] AS "full",
    CASE WHEN heads THEN tapio_ago($as_of, $lookback_seconds) ELSE last_ts - INTERVAL '10 minutes' END AS since
  FROM (
    SELECT *, newest['c1'] >= 0.8 * newest['c2']
      OR newest['c1'] + 4 * $horizon_seconds * greatest(coalesce(trend, 0.0), coalesce(recent_trend, 0.0), 0.0)
        >= newest['c2'] AS heads
    FROM screen
  )
  WHERE CASE WHEN "type" = 'heap' THEN heads AND newest['c1'] < newest['c2']
    ELSE heads OR "type" IN ('disk_full', 'inodes') END
), forecast AS (
  SELECT u.series_id, u."type", bool_or(h."full") AS "full", min(u.ts) AS first_ts, max(u.ts) AS last_ts,
    tapio_forecast(u.series_id, u.ts, u.level, u.most, $as_of, $horizon_seconds) AS f
  FROM heading h JOIN use u ON u.series_id = h.series_id AND u."type" = h."type"
  WHERE u.ts > h.since
  GROUP BY u.series_id, u."type"
), worded AS (
  SELECT f.*, CASE "type" WHEN 'disk_full' THEN 'Full disk' WHEN 'inodes' THEN 'Shortage of inodes'
      WHEN 'heap' THEN 'Full heap' WHEN 'pids' THEN 'Shortage of pids' ELSE 'Shortage of file descriptors' END AS what,
    CASE "type" WHEN 'disk_full' THEN 'Disk is full' WHEN 'inodes' THEN 'No inodes are left'
      WHEN 'pids' THEN 'No pids are left' ELSE 'No file descriptors are left' END AS now_full,
    tapio_format_amount("type", f['slope_per_second']) || '/s' AS slope,
    tapio_format_duration(f['window_seconds']) AS window,
    tapio_format_amount("type", f['level']) || ' of ' || tapio_format_amount("type", f['threshold']) AS used,
    tapio_format_amount("type", greatest(f['threshold'] - f['level'], 0.0)) || ' of '
      || tapio_format_amount("type", f['threshold']) AS remaining,
    CASE WHEN "type" = 'heap' THEN 'its own limit: ' || o.heap_limit_option || CASE o.runtime
      WHEN 'go' THEN '; beyond it the collector of Go takes ever more CPU, and the limit of the cgroup comes next'
      WHEN 'jvm' THEN '; a heap that cannot be freed there ends with OutOfMemoryError, the kernel kills nothing'
      ELSE '; a heap that cannot be freed there ends the process with "heap out of memory", the kernel kills nothing' END
    END AS own_limit
  FROM forecast f LEFT JOIN option o ON o.series_id = f.series_id
)
SELECT series_id, coalesce(f['segment_start'], first_ts) AS window_start, last_ts AS window_end,
  CASE WHEN "type" <> 'heap' AND ("full" OR f['probability'] >= $critical_probability) THEN 'critical'
       WHEN f['probability'] >= $warning_probability THEN 'warning' END AS severity,
  CASE WHEN "full" THEN 1.0 ELSE f['probability'] END AS score,
  CASE WHEN "full" THEN now_full
       WHEN f['eta_seconds'] IS NULL THEN what || ' possible within ' || tapio_format_duration(f['horizon_seconds'])
       ELSE what || ' predicted in ' || tapio_format_duration(f['eta_seconds']) END AS title,
  CASE WHEN f['cannot_say'] IS NOT NULL THEN 'No prediction: ' || f['cannot_say']
       ELSE CASE WHEN f['slope_per_second'] > 0 THEN 'Use grows by ' || slope || ' over the last ' || window
            ELSE 'Use does not grow over the last ' || window END || ', ' || remaining || ' are left' END AS detail,
  tapio_evidence(
    CASE WHEN f['cannot_say'] IS NULL THEN tapio_fact(NULL, last_ts, 'use grows by ' || slope || ', measured over '
      || CAST(f['samples'] AS VARCHAR) || ' samples in ' || window) END,
    tapio_fact(NULL, last_ts, 'in use: ' || used), tapio_fact(NULL, last_ts, own_limit)) AS evidence,
  "type", f['eta_seconds'] AS eta_seconds, f['eta_low80_seconds'] AS eta_low_seconds,
  f['eta_high80_seconds'] AS eta_high_seconds, f['eta_low99_seconds'] AS eta_low99_seconds,
  f['eta_high99_seconds'] AS eta_high99_seconds, f['probability'] AS probability, $horizon_seconds AS horizon_seconds,
  f['model'] AS model, f['window_seconds'] AS window_seconds, f['samples'] AS samples,
  f['slope_per_second'] AS slope_per_second, f['cannot_say'] AS cannot_say
FROM worded
ORDER BY series_id, "type"
