-- name: certificate_expiry
-- title: A certificate expires
-- tables: certificates, series
-- param: lookback_seconds float64 = 7500 -- looks older than this (two, and five minutes) are not asked any more
-- param: warning_seconds float64 = 2592000 -- with 30 days left there is a warning,
-- param: warning_share float64 = 0.1 -- but not before no more than this share of its validity is left
-- param: critical_seconds float64 = 604800 -- with 7 days left it is critical,
-- param: critical_share float64 = 0.08 -- but not before no more than this share is left (of 90 days 7.2)
-- remedy: Immediate: renew it with what issued it, and restart or reload what uses it: most programs read it only once
-- remedy: Long-term: let it be renewed by a timer (certbot renew, cert-manager, the kubelet's rotation) well before
--
-- A date is known: there is no probability, no interval and no model. Only the newest look of each node counts: what was
-- renewed or deleted is not in it. Who renews by himself does so with more than a tenth left: the kubelet at 70 to 90 %
-- of the validity (client-go, util/certificate/certificate_manager.go), certbot and cert-manager with a third left. So
-- a certificate of 24 hours is no warning before 2.4 hours are left, one of a year is one 30 days before.
-- What is left is judged as of the look, since a later renewal is not seen before the next one.
WITH place AS (
  SELECT series_id, CAST(max(node) AS VARCHAR) AS node, CAST(max(name) AS VARCHAR) AS name
  FROM series
  WHERE kind = 'certificate'
  GROUP BY series_id
), look AS (
  SELECT c.*, p.node, p.name, max(c.ts) OVER (PARTITION BY p.node) AS newest
  FROM certificates c JOIN place p ON p.series_id = c.series_id
  WHERE c.ts > tapio_ago($as_of, $lookback_seconds)
), dated AS (
  SELECT *, extract(epoch FROM not_after) - extract(epoch FROM $as_of) AS remaining,
    extract(epoch FROM not_after) - extract(epoch FROM ts) AS remaining_then,
    extract(epoch FROM not_after) - extract(epoch FROM not_before) AS validity,
    to_char(not_after, '%Y-%m-%d %H:%M UTC') AS date,
    tapio_format_duration(extract(epoch FROM $as_of) - extract(epoch FROM ts)) AS looked
  FROM look
  WHERE ts = newest
), judged AS (
  SELECT *, CASE WHEN remaining_then <= 0 OR remaining_then <= least($critical_seconds, $critical_share * validity) THEN 'critical'
      WHEN remaining_then <= least($warning_seconds, $warning_share * validity) THEN 'warning' END AS severity
  FROM dated
), said AS (
  SELECT *, CASE WHEN not_after IS NULL THEN 'it has no expiration date (9999-12-31, RFC 5280), or one after 2262-04-11'
      WHEN remaining <= 0 AND severity IS NULL THEN 'it was valid until ' || date || ' when it was looked at, '
        || looked || ' ago; whether it was renewed since is not known before the next look' END AS cannot_say
  FROM judged
)
SELECT series_id,
  CASE WHEN not_before <= ts AND extract(epoch FROM not_before) >= 0 THEN not_before
       ELSE arrow_cast(0, 'Timestamp(Microsecond, Some("UTC"))') END AS window_start,
  ts AS window_end, severity,
  CASE WHEN validity > 0 THEN least(greatest(1.0 - remaining / validity, 0.0), 1.0) END AS score,
  'Certificate ' || name || CASE WHEN remaining <= 0 THEN ' expired on ' || date || ', '
      || tapio_format_duration(-remaining) || ' ago'
    ELSE ' expires on ' || date || ', in ' || tapio_format_duration(remaining) END AS title,
  path || CASE WHEN position > 0 THEN ' (number ' || position || ' in it)' ELSE '' END
    || coalesce(', issued by ' || issuer, '') || coalesce(', valid since ' || to_char(not_before, '%Y-%m-%d %H:%M UTC'), '')
    AS detail,
  tapio_evidence(tapio_fact(NULL, ts, 'valid until ' || date || ' as read from ' || path || ' ' || looked
    || ' ago, serial number ' || serial)) AS evidence,
  'cert_expiry' AS "type", CASE WHEN cannot_say IS NULL THEN remaining END AS eta_seconds,
  'date' AS model, cannot_say
FROM said
ORDER BY series_id
