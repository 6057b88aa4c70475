-- name: tapio_fixes
-- title: Commands that buy time or solve what was found, with what they cost and how to take them back
-- param: target text = '' -- as in tapio_targets
--
-- The new memory limit is enough for the present level and the horizon at the measured growth, at least a quarter above
-- the present one, in whole MiB. After a kill without present growth it is a quarter above. The limit of descriptors is
-- doubled. For a filesystem that fills up there is no command that is safe without knowing what may be deleted. A
-- certificate has one where its path says who issued it: kubeadm (its own names, kubernetes.io/docs, "kubeadm certs
-- renew"; authorities cannot be renewed so) or certbot (a lineage is named by its folder).
WITH checked AS (
  SELECT * FROM tapio_check($target)
), found AS (
  SELECT *, pattern = 'memory_leak_oom' AS of_memory
  FROM checked
  WHERE (pattern = 'memory_leak_oom' AND memory_limit_bytes IS NOT NULL AND cgroup IS NOT NULL AND subject_kind <> 'node')
    OR (pattern = 'process_limit_exhaustion' AND "type" = 'fds' AND pid IS NOT NULL)
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
    greatest(coalesce(slope_per_second, 0.0), 0.0) AS growth,
    CAST(ceil(greatest(1.25 * memory_limit_bytes, memory_limit_bytes - memory_headroom_bytes
      + greatest(coalesce(slope_per_second, 0.0), 0.0) * coalesce(horizon_seconds, 900.0)) / 1048576.0)
      AS BIGINT) * 1048576 AS new_limit,
    row_number() OVER (PARTITION BY f.series_id, f.pattern ORDER BY CASE severity WHEN 'critical' THEN 0 WHEN 'error' THEN 1 ELSE 2 END,
      probability DESC NULLS LAST, insight_id) AS place
  FROM found f LEFT JOIN place p ON p.series_id = f.series_id LEFT JOIN node n ON n.node = f.node
), fix AS (
  SELECT *, new_limit - memory_limit_bytes AS more FROM wanted WHERE place = 1
), told AS (
  SELECT probability, series_id, subject_kind, namespace, name, node, cgroup, pattern, insight_id,
    CASE WHEN NOT of_memory THEN 'Raise the limit of file descriptors of ' || name || ' (pid ' || pid || ') from '
        || fds_limit || ' to ' || (2 * fds_limit)
      ELSE 'Raise the memory limit of ' || coalesce(unit, cgroup) || ' from ' || tapio_format_bytes(memory_limit_bytes)
        || ' to ' || tapio_format_bytes(new_limit) END AS description,
    CASE WHEN NOT of_memory THEN 'prlimit --pid ' || pid || ' --nofile='
      WHEN subject_kind = 'unit' AND unit IS NOT NULL THEN 'systemctl set-property --runtime ' || unit || ' MemoryMax='
      ELSE 'echo ' END AS before,
    CASE WHEN NOT of_memory THEN 2 * fds_limit ELSE new_limit END AS new_value,
    CASE WHEN NOT of_memory THEN fds_limit ELSE memory_limit_bytes END AS old_value,
    CASE WHEN NOT of_memory THEN ':'
      WHEN subject_kind = 'unit' AND unit IS NOT NULL THEN ''
      ELSE ' > ' || dir || CASE WHEN version = 1 THEN '/memory.limit_in_bytes' ELSE '/memory.max' END END AS after,
    CASE WHEN NOT of_memory THEN 'low' WHEN node_headroom IS NULL THEN 'medium'
         WHEN more < 0.25 * node_headroom THEN 'low' WHEN more < 0.75 * node_headroom THEN 'medium'
         ELSE 'high' END AS risk,
    CASE WHEN NOT of_memory
        THEN 'Nothing is restarted; holds until the process ends, and is refused where its hard limit is lower'
      ELSE 'Nothing is restarted; the limit holds until the next restart of the subject or of the machine' END AS impact,
    CASE WHEN NOT of_memory THEN 'A little kernel memory for each descriptor'
      ELSE 'Up to ' || tapio_format_bytes(more) || ' more memory of the node'
        || CASE WHEN node_headroom IS NULL THEN ', whose free memory is not known'
           ELSE ', which has ' || tapio_format_bytes(node_headroom) || ' available' END END AS cost,
    CASE WHEN NOT of_memory AND growth > 0 THEN tapio_format_duration(fds_limit / growth) || ' at the present growth of '
        || tapio_format_amount('fds', growth) || '/s'
      WHEN NOT of_memory THEN 'room for ' || fds_limit || ' more descriptors; their number does not grow at present'
      WHEN growth > 0 THEN tapio_format_duration(more / growth) || ' at the present growth of '
        || tapio_format_bytes(growth) || '/s'
      ELSE tapio_format_bytes(more) || ' of room; memory does not grow at present' END AS buys
  FROM fix
), issued AS (
  SELECT *, CASE path WHEN '/etc/kubernetes/pki/apiserver.crt' THEN 'apiserver'
      WHEN '/etc/kubernetes/pki/apiserver-kubelet-client.crt' THEN 'apiserver-kubelet-client'
      WHEN '/etc/kubernetes/pki/apiserver-etcd-client.crt' THEN 'apiserver-etcd-client'
      WHEN '/etc/kubernetes/pki/front-proxy-client.crt' THEN 'front-proxy-client'
      WHEN '/etc/kubernetes/pki/etcd/server.crt' THEN 'etcd-server'
      WHEN '/etc/kubernetes/pki/etcd/peer.crt' THEN 'etcd-peer'
      WHEN '/etc/kubernetes/pki/etcd/healthcheck-client.crt' THEN 'etcd-healthcheck-client'
      WHEN '/etc/kubernetes/admin.conf' THEN 'admin.conf'
      WHEN '/etc/kubernetes/super-admin.conf' THEN 'super-admin.conf'
      WHEN '/etc/kubernetes/controller-manager.conf' THEN 'controller-manager.conf'
      WHEN '/etc/kubernetes/scheduler.conf' THEN 'scheduler.conf' END AS of_kubeadm,
    CASE WHEN regexp_like(path, '^/etc/letsencrypt/live/[A-Za-z0-9._-]+/[a-z]+[.]pem$')
      THEN split_part(path, '/', 5) END AS of_certbot
  FROM checked WHERE pattern = 'certificate_expiry'
), command AS (
  SELECT probability, not_after, series_id, subject_kind, namespace, name, node, cgroup, pattern, insight_id,
    'Renew the certificate ' || name || ' (' || path || ') with ' || CASE WHEN of_kubeadm IS NOT NULL THEN 'kubeadm'
      ELSE 'certbot' END AS description,
    CASE WHEN of_kubeadm IS NOT NULL THEN 'kubeadm certs renew ' || of_kubeadm
      ELSE 'certbot renew --cert-name ' || of_certbot END AS command,
    CAST(NULL AS VARCHAR) AS undo_command,
    CASE WHEN of_kubeadm IS NOT NULL THEN 'medium' ELSE 'low' END AS risk,
    CASE WHEN of_kubeadm IS NOT NULL
        THEN 'The file is replaced; what uses it (the static pods of the control plane) takes it only after a restart'
      ELSE 'The files are replaced; what uses them takes them after a reload, which a deploy hook of certbot may do' END AS impact,
    CAST(NULL AS VARCHAR) AS cost, 'a new certificate; for how long it is valid its issuer decides' AS buys
  FROM issued WHERE of_kubeadm IS NOT NULL OR of_certbot IS NOT NULL
  UNION ALL
  SELECT probability, NULL, series_id, subject_kind, namespace, name, node, cgroup, pattern, insight_id,
    description, before || new_value || after, before || old_value || after, risk, impact, cost, buys
  FROM told
)
SELECT CAST(row_number() OVER (ORDER BY probability DESC NULLS LAST, not_after NULLS LAST, cgroup, series_id, pattern) AS BIGINT) AS rank,
  series_id, subject_kind, namespace, name, node, cgroup, pattern, insight_id, description,
  command, undo_command, risk, impact, cost, buys
FROM command
ORDER BY rank
