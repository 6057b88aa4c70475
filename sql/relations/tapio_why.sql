-- name: tapio_why
-- title: Why memory grows or ran out: causes with evidence, the chain of events, what to do
-- param: target text = '' -- as in tapio_targets
-- param: share_threshold float64 = 0.5 -- a part that explains at least this share of the growth counts as its cause
-- param: lookback_seconds float64 = 3600 -- rows older than this are not looked at
--
-- The growth examined is the one up to the newest OOM kill, or up to now where there was none. It counts as proven when
-- the rise over the segment is at least four times the scatter around it and 1 % of the limit. A cause is a route whose
-- requests retain memory (regression of the growth on the requests of all routes), a process or a child cgroup whose own
-- growth over the same segment explains the given share of it, or a limit that was lowered in it.
WITH target AS (
  SELECT * FROM tapio_targets($target)
  WHERE coalesce($target, '') <> '' OR (subject_kind <> 'process' AND last_seen IS NOT NULL)
), event AS (
  SELECT series_id, max(ts) FILTER (WHERE kind = 'oom.kill') AS kill_ts,
    last_value(id ORDER BY ts, id) FILTER (WHERE kind = 'oom.kill') AS kill_id,
    last_value(message ORDER BY ts, id) FILTER (WHERE kind = 'oom.kill') AS kill_text,
    max(ts) FILTER (WHERE kind = 'change.config') AS change_ts,
    last_value(id ORDER BY ts, id) FILTER (WHERE kind = 'change.config') AS change_id,
    last_value(message ORDER BY ts, id) FILTER (WHERE kind = 'change.config') AS change_text,
    last_value(TRY_CAST(attributes['before'] AS DOUBLE) ORDER BY ts, id) FILTER (WHERE kind = 'change.config')
      AS limit_before,
    last_value(TRY_CAST(attributes['after'] AS DOUBLE) ORDER BY ts, id) FILTER (WHERE kind = 'change.config')
      AS limit_after
  FROM events
  WHERE kind IN ('oom.kill', 'change.config') AND ts > tapio_ago($as_of, $lookback_seconds)
    AND series_id IS NOT NULL
  GROUP BY series_id
), growth AS (
  SELECT * FROM tapio_growth($target, $lookback_seconds)
), process AS (
  SELECT g.series_id AS subject_id, p.series_id, max(p.name) AS name, max(p.pid) AS pid, max(p.cgroup) AS cgroup,
    tapio_trend(r.ts, r.memory_rss_bytes) AS slope, max(p.heap_option) AS heap_option,
    tapio_last(r.ts, r.memory_rss_bytes, r.heap_limit_bytes) AS own
  FROM growth g
  JOIN (
    SELECT series_id, node, name, pid, cgroup, heap_option, unnest(tapio_ancestors(cgroup)) AS above
    FROM (
      SELECT series_id, CAST(max(node) AS VARCHAR) AS node, CAST(max(name) AS VARCHAR) AS name, max(pid) AS pid,
        CAST(max(cgroup) AS VARCHAR) AS cgroup,
        CAST(max(CASE WHEN runtime <> 'go' THEN heap_limit_option END) AS VARCHAR) AS heap_option
      FROM series WHERE kind = 'process' GROUP BY series_id
    )
  ) p ON p.node = g.node AND p.above = g.cgroup
  JOIN resources r ON r.series_id = p.series_id AND r.ts >= g.segment_start AND r.ts <= g.until
  WHERE r.ts > tapio_ago($as_of, $lookback_seconds)
  GROUP BY g.series_id, p.series_id
), best_process AS (
  SELECT * FROM (
    SELECT *, row_number() OVER (PARTITION BY subject_id ORDER BY slope DESC NULLS LAST, series_id) AS place
    FROM process WHERE slope > 0
  ) WHERE place = 1
), child AS (
  SELECT g.series_id AS subject_id, c.series_id, max(c.name) AS name, max(c.cgroup) AS cgroup,
    max(c.subject_kind) AS subject_kind, tapio_trend(r.ts, r.memory_level_bytes) AS slope
  FROM growth g
  JOIN (
    SELECT series_id, max(parent_id) AS parent_id, CAST(max(name) AS VARCHAR) AS name,
      CAST(max(cgroup) AS VARCHAR) AS cgroup, CAST(max(kind) AS VARCHAR) AS subject_kind
    FROM series WHERE kind <> 'process' GROUP BY series_id
  ) c ON c.parent_id = g.series_id
  JOIN resources r ON r.series_id = c.series_id AND r.ts >= g.segment_start AND r.ts <= g.until
  WHERE r.ts > tapio_ago($as_of, $lookback_seconds)
  GROUP BY g.series_id, c.series_id
), best_child AS (
  SELECT * FROM (
    SELECT *, row_number() OVER (PARTITION BY subject_id ORDER BY slope DESC NULLS LAST, series_id) AS place
    FROM child WHERE slope > 0
  ) WHERE place = 1
), server AS (
  SELECT g.series_id AS subject_id, c.series_id
  FROM growth g
  JOIN (
    SELECT series_id, node, unnest(tapio_ancestors(cgroup)) AS above
    FROM (
      SELECT series_id, CAST(max(node) AS VARCHAR) AS node, CAST(max(cgroup) AS VARCHAR) AS cgroup
      FROM series WHERE kind <> 'process' AND cgroup IS NOT NULL GROUP BY series_id
    )
  ) c ON c.node = g.node AND c.above = g.cgroup
), traffic AS (
  SELECT g.series_id AS subject_id, r.ts, r.memory_level_bytes AS level, NULL AS route, NULL AS requests
  FROM growth g JOIN resources r ON r.series_id = g.series_id AND r.ts >= g.segment_start AND r.ts <= g.until
  WHERE r.ts > tapio_ago($as_of, $lookback_seconds)
  UNION ALL
  SELECT v.subject_id, h.ts, NULL, h.method || ' ' || h.route, h.count
  FROM server v JOIN http h ON h.series_id = v.series_id
  WHERE h.ts > tapio_ago($as_of, $lookback_seconds) AND h.side = 'server' AND h.route IS NOT NULL
), retention AS (
  SELECT subject_id, unnest(tapio_route_retention(ts, level, route, requests)) AS k
  FROM traffic
  GROUP BY subject_id
  HAVING count(requests) > 0
), route AS (
  SELECT subject_id, k['route'] AS route, k['bytes_per_request'] AS route_bytes, k['low'] AS route_low,
    k['high'] AS route_high, k['requests'] AS route_requests, k['windows_called'] AS route_windows,
    k['windows_agree'] AS route_agree, k['share_of_growth'] AS route_share
  FROM retention
  WHERE k['route'] IS NOT NULL AND k['no_claim'] IS NULL AND k['share_of_growth'] >= 0.1
), judged AS (
  SELECT t.*, g.slope, g.level_slope, g.segment_start, g.until, g.level, g.threshold, g.samples, g.window_seconds,
    g.residual_scale, g.eta_seconds, g.probability, g.no_growth, e.kill_ts, e.kill_id, e.kill_text,
    e.change_ts, e.change_id, e.change_text, e.limit_before, e.limit_after,
    coalesce(g.proven, false) AS proven,
    coalesce(g.proven, false) AND p.slope >= $share_threshold * g.level_slope AS by_process,
    p.name AS process, p.pid AS process_pid, p.cgroup AS process_cgroup, p.slope AS process_slope,
    p.slope / g.level_slope AS process_share, p.heap_option, p.own['c2'] AS heap_limit,
    -- As in memory_leak_oom.
    p.heap_option IS NOT NULL AND p.own['c1'] - p.own['c2'] < greatest(67108864, 0.1 * p.own['c2'])
      AND g.level + greatest(p.own['c2'] - p.own['c1'], 0.0) * greatest(g.level_slope / p.slope, 1.0)
        <= 0.9 * g.threshold AS heap_first,
    coalesce(g.proven, false) AND c.slope >= $share_threshold * g.level_slope AS by_child,
    c.name AS child, c.cgroup AS child_cgroup, c.slope AS child_slope, c.slope / g.level_slope AS child_share,
    c.subject_kind AS child_kind,
    coalesce(g.proven, false) AND q.n > 0 AS by_route,
    e.limit_after < e.limit_before AND e.change_ts <= g.until
      AND (g.probability >= 0.3 OR e.kill_ts IS NOT NULL) AS by_limit
  FROM target t
  LEFT JOIN growth g ON g.series_id = t.series_id
  LEFT JOIN event e ON e.series_id = t.series_id
  LEFT JOIN best_process p ON p.subject_id = t.series_id
  LEFT JOIN best_child c ON c.subject_id = t.series_id
  LEFT JOIN (SELECT subject_id, count(*) AS n FROM route GROUP BY subject_id) q ON q.subject_id = t.series_id
), verdict AS (
  SELECT *, CASE WHEN by_process OR by_child OR by_limit OR by_route THEN 'cause_found' ELSE 'no_cause_proven' END AS verdict,
    tapio_fact(NULL, until, 'memory grows at ' || tapio_format_bytes(slope) || '/s: measured over '
      || CAST(samples AS VARCHAR) || ' samples in ' || tapio_format_duration(window_seconds)) AS growth_fact,
    tapio_fact(kill_id, kill_ts, kill_text) AS kill_fact,
    tapio_fact(change_id, change_ts, change_text) AS change_fact
  FROM judged
), leaking AS (
  SELECT v.*, r.*, route || ' retains ' || tapio_format_bytes(route_bytes) || ' per request (95 %: '
    || tapio_format_bytes(route_low) || ' to ' || tapio_format_bytes(route_high) || '), ' || route_agree || ' of '
    || route_windows || ' windows with '
    || CAST(CAST(route_requests AS BIGINT) AS VARCHAR) || ' requests' AS route_fact
  FROM verdict v JOIN route r ON r.subject_id = v.series_id
  WHERE v.proven
), line AS (
  SELECT * EXCLUDE (subject_id, route, route_bytes, route_low, route_high, route_requests, route_windows, route_agree,
      route_share, route_fact), 'cause' AS section, 0.5 AS weight, 'http.route' AS line_kind, route_share AS line_score,
    'Memory leak in ' || route AS line,
    'Its requests explain ' || CAST(round(100 * route_share) AS BIGINT) || ' % of the growth of ' || cgroup AS line_detail,
    tapio_evidence(tapio_fact(NULL, until, route_fact), growth_fact) AS line_evidence, cgroup AS line_cgroup,
    segment_start AS at
  FROM leaking
  UNION ALL
  SELECT * EXCLUDE (subject_id, route, route_bytes, route_low, route_high, route_requests, route_windows, route_agree,
      route_share, route_fact), 'chain', 0.0, 'http.requests', NULL,
    CAST(CAST(route_requests AS BIGINT) AS VARCHAR) || ' HTTP requests: ' || route, NULL,
    tapio_evidence(tapio_fact(NULL, segment_start, route_fact)), cgroup AS line_cgroup, segment_start AS at
  FROM leaking
  UNION ALL
  SELECT *, 'cause' AS section, 1.0 AS weight, 'process.growth' AS line_kind, process_share AS line_score,
    'Process ' || process || ' (pid ' || CAST(process_pid AS VARCHAR) || ') keeps allocating memory in ' || cgroup AS line,
    'It explains ' || CAST(round(100 * process_share) AS BIGINT) || ' % of the growth of ' || cgroup AS line_detail,
    tapio_evidence(growth_fact, tapio_fact(NULL, until, 'process ' || process || ' (pid '
      || CAST(process_pid AS VARCHAR) || ') grows at ' || tapio_format_bytes(process_slope) || '/s in '
      || process_cgroup), CASE WHEN heap_first THEN tapio_fact(NULL, until, 'its heap ends at its own limit of '
      || tapio_format_bytes(heap_limit) || ' (' || heap_option || '), before the limit of ' || cgroup) END) AS line_evidence, process_cgroup AS line_cgroup, segment_start AS at
  FROM verdict WHERE by_process
  UNION ALL
  SELECT *, 'cause', 2.0, 'memory.growth', child_share AS line_score,
    'Memory grows in ' || child_cgroup,
    'It carries ' || CAST(round(100 * child_share) AS BIGINT) || ' % of the growth of ' || cgroup,
    tapio_evidence(growth_fact, tapio_fact(NULL, until, child_cgroup || ' grows at '
      || tapio_format_bytes(child_slope) || '/s')), child_cgroup AS line_cgroup, segment_start AS at
  FROM verdict WHERE by_child
  UNION ALL
  SELECT *, 'cause', 3.0, 'change.config', 1.0 - limit_after / limit_before,
    'The memory limit of ' || coalesce(cgroup, name) || ' was lowered from ' || tapio_format_bytes(limit_before) || ' to '
      || tapio_format_bytes(limit_after),
    'It was lowered ' || tapio_format_duration(extract(epoch FROM until) - extract(epoch FROM change_ts))
      || ' before', tapio_evidence(change_fact), cgroup AS line_cgroup, change_ts AS at
  FROM verdict WHERE by_limit
  UNION ALL
  SELECT *, 'chain', 0.0, 'memory.growth', slope AS line_score, 'Memory of ' || coalesce(cgroup, name) || ' begins to grow at '
      || tapio_format_bytes(slope) || '/s', NULL, tapio_evidence(tapio_fact(NULL, segment_start, 'first of '
      || CAST(samples AS VARCHAR) || ' samples of this growth')), cgroup AS line_cgroup, segment_start AS at
  FROM verdict WHERE proven
  UNION ALL
  SELECT *, 'chain', 0.0, 'change.config', NULL, 'Memory limit changed from ' || tapio_format_bytes(limit_before) || ' to '
      || tapio_format_bytes(limit_after), NULL, tapio_evidence(change_fact), cgroup AS line_cgroup, change_ts AS at
  FROM verdict WHERE change_ts IS NOT NULL
  UNION ALL
  SELECT *, 'chain', 0.0, 'forecast', probability AS line_score, 'OOM predicted in ' || tapio_format_duration(eta_seconds)
      || ' (P = ' || CAST(round(100 * probability) AS BIGINT) || ' % within 15 minutes)', NULL,
    tapio_evidence(growth_fact), cgroup AS line_cgroup, until AS at
  FROM verdict WHERE proven AND eta_seconds IS NOT NULL AND kill_ts IS NULL AND heap_first IS NOT TRUE
  UNION ALL
  SELECT *, 'chain', 0.0, 'oom.kill', NULL, 'The kernel kills a process of ' || coalesce(cgroup, name), NULL,
    tapio_evidence(kill_fact), cgroup AS line_cgroup, kill_ts AS at
  FROM verdict WHERE kill_ts IS NOT NULL
  UNION ALL
  SELECT v.*, 'recommendation', CAST(r.rank AS DOUBLE), 'remedy', NULL, r.remedy AS line, NULL, tapio_evidence(NULL), v.cgroup AS line_cgroup,
    v.until AS at
  FROM verdict v CROSS JOIN tapio_patterns() r
  WHERE r.pattern = CASE WHEN subject_kind = 'certificate' THEN 'certificate_expiry'
      WHEN heap_first AND kill_ts IS NULL THEN 'process_limit_exhaustion' ELSE 'memory_leak_oom' END
    AND (proven OR kill_ts IS NOT NULL OR by_limit OR not_after < $as_of + INTERVAL '90 days')
  UNION ALL
  SELECT *, NULL, 0.0, 'none', NULL, 'No cause proven', CASE
      WHEN subject_kind = 'certificate' THEN coalesce('the date is known since it was issued: valid until '
        || to_char(not_after, '%Y-%m-%d %H:%M UTC'), 'no date of it is known')
      WHEN subject_kind = 'filesystem' THEN 'who fills a filesystem is not attributed yet; check says how fast it fills'
      WHEN no_growth IS NOT NULL THEN no_growth
      WHEN threshold IS NULL THEN 'there are no rows with a memory limit to judge from'
      WHEN NOT proven THEN 'the growth is not distinct from the scatter of the values'
      ELSE 'no process, child cgroup or limit change explains enough of the growth' END,
    tapio_evidence(CASE WHEN proven THEN growth_fact END, kill_fact), cgroup AS line_cgroup, until AS at
  FROM verdict WHERE verdict = 'no_cause_proven'
)
SELECT coalesce(cgroup, name) AS target, verdict, section,
  CASE WHEN section IS NOT NULL THEN CAST(row_number() OVER (PARTITION BY series_id, section
    ORDER BY CASE WHEN section = 'chain' THEN extract(epoch FROM at) ELSE weight END, line_kind) AS BIGINT) END AS rank,
  CASE WHEN line_kind = 'process.growth' THEN 'process' WHEN section = 'cause' AND line_kind = 'memory.growth' THEN child_kind
    ELSE subject_kind END AS subject_kind,
  namespace, CASE WHEN line_kind = 'process.growth' THEN process WHEN section = 'cause' AND line_kind = 'memory.growth'
    THEN child ELSE name END AS name,
  container, node, line_cgroup AS cgroup, line_kind AS kind, line AS title, line_score AS score,
  CASE WHEN proven OR kill_ts IS NOT NULL THEN 'memory_leak_oom' END AS pattern, line_detail AS detail,
  line_evidence AS evidence
FROM line
ORDER BY target, series_id, CASE section WHEN 'cause' THEN 0 WHEN 'chain' THEN 1 WHEN 'recommendation' THEN 2 ELSE 3 END, rank
