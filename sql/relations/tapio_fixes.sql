-- name: tapio_fixes
-- title: Commands that buy time or solve what was found, with what they cost and how to take them back
-- param: target text = '' -- as in tapio_targets
--
-- The new limit is enough for the present level and the horizon at the measured growth, at least a quarter above the
-- present one, in whole MiB. After a kill without present growth it is a quarter above.
WITH found AS (
  SELECT * FROM tapio_check($target)
  WHERE pattern IS NOT NULL AND memory_limit_bytes IS NOT NULL AND cgroup IS NOT NULL AND subject_kind <> 'node'
), place AS (
  SELECT series_id, CAST(max(cgroup_fs) AS VARCHAR) AS dir, max(cgroup_version) AS version
  FROM series GROUP BY series_id
), node AS (
  SELECT CAST(max(s.node) AS VARCHAR) AS node, max(l.r['c1']) AS node_headroom
  FROM (SELECT series_id, max(node) AS node FROM series WHERE kind = 'node' GROUP BY series_id) s
  JOIN (
    SELECT series_id, tapio_last(ts, memory_headroom_bytes) AS r FROM resources
    WHERE ts > $as_of - INTERVAL '5 minutes' GROUP BY series_id
  ) l ON l.series_id = s.series_id
  GROUP BY s.node
), wanted AS (
  SELECT f.*, p.dir, p.version, n.node_headroom,
    greatest(coalesce(slope_bytes_per_second, 0.0), 0.0) AS growth,
    CAST(ceil(greatest(1.25 * memory_limit_bytes, memory_limit_bytes - memory_headroom_bytes
      + greatest(coalesce(slope_bytes_per_second, 0.0), 0.0) * coalesce(horizon_seconds, 900.0)) / 1048576.0)
      AS BIGINT) * 1048576 AS new_limit,
    row_number() OVER (PARTITION BY f.series_id ORDER BY CASE severity WHEN 'critical' THEN 0 WHEN 'error' THEN 1 ELSE 2 END,
      probability DESC NULLS LAST, insight_id) AS place
  FROM found f JOIN place p ON p.series_id = f.series_id LEFT JOIN node n ON n.node = f.node
), fix AS (
  SELECT *, new_limit - memory_limit_bytes AS more FROM wanted WHERE place = 1
)
SELECT CAST(row_number() OVER (ORDER BY probability DESC NULLS LAST, cgroup, series_id) AS BIGINT) AS rank,
  series_id, subject_kind, namespace, name, node, cgroup, pattern, insight_id,
  'Raise the memory limit of ' || coalesce(unit, cgroup) || ' from ' || tapio_format_bytes(memory_limit_bytes) || ' to '
    || tapio_format_bytes(new_limit) AS description,
  CASE WHEN subject_kind = 'unit' AND unit IS NOT NULL
      THEN 'systemctl set-property --runtime ' || unit || ' MemoryMax=' || CAST(new_limit AS VARCHAR)
    ELSE 'echo ' || CAST(new_limit AS VARCHAR) || ' > ' || dir
      || CASE WHEN version = 1 THEN '/memory.limit_in_bytes' ELSE '/memory.max' END END AS command,
  CASE WHEN subject_kind = 'unit' AND unit IS NOT NULL
      THEN 'systemctl set-property --runtime ' || unit || ' MemoryMax=' || CAST(memory_limit_bytes AS VARCHAR)
    ELSE 'echo ' || CAST(memory_limit_bytes AS VARCHAR) || ' > ' || dir
      || CASE WHEN version = 1 THEN '/memory.limit_in_bytes' ELSE '/memory.max' END END AS undo_command,
  CASE WHEN node_headroom IS NULL THEN 'medium' WHEN more < 0.25 * node_headroom THEN 'low'
       WHEN more < 0.75 * node_headroom THEN 'medium' ELSE 'high' END AS risk,
  'Nothing is restarted; the limit holds until the next restart of the subject or of the machine' AS impact,
  'Up to ' || tapio_format_bytes(more) || ' more memory of the node'
    || CASE WHEN node_headroom IS NULL THEN ', whose free memory is not known'
       ELSE ', which has ' || tapio_format_bytes(node_headroom) || ' available' END AS cost,
  CASE WHEN growth > 0 THEN tapio_format_duration(more / growth) || ' at the present growth of '
      || tapio_format_bytes(growth) || '/s'
    ELSE tapio_format_bytes(more) || ' of room; memory does not grow at present' END AS buys
FROM fix
ORDER BY rank
