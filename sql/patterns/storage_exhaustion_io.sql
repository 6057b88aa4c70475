-- name: storage_exhaustion_io
-- title: A filesystem fills up
-- tables: disks
-- param: horizon_seconds float64 = 86400 -- being full within this time counts
-- param: lookback_seconds float64 = 21600 -- rows older than this are not looked at
-- param: critical_probability float64 = 0.5 -- from here on critical
-- param: warning_probability float64 = 0.3 -- from here on a warning
-- remedy: Immediate: find what grows (du -x --max-depth=2 | sort -n on the mount point) and delete or move what is not needed
-- remedy: Immediate: a deleted file that a process still holds open keeps its space: lsof +L1 names it, restarting the process frees it
-- remedy: Long-term: enlarge the filesystem, rotate logs, set a quota for what grows
--
-- Full means that processes without privileges cannot write any more; what is reserved for root does not count as free.
-- Inodes run out apart from bytes, and the error is the same.
SELECT * FROM tapio_exhaustion('disk_full inodes', $horizon_seconds, $lookback_seconds, $critical_probability,
  $warning_probability)
