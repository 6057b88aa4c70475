-- name: process_limit_exhaustion
-- title: Processes, threads or file descriptors run towards their limit
-- tables: resources
-- param: horizon_seconds float64 = 900 -- reaching the limit within this time counts
-- param: lookback_seconds float64 = 3600 -- rows older than this are not looked at
-- param: critical_probability float64 = 0.5 -- from here on critical
-- param: warning_probability float64 = 0.3 -- from here on a warning
-- remedy: Immediate: raise the limit, it buys time in proportion to the growth
-- remedy: Immediate: restart the subject in a quiet moment, the growth starts again from the bottom
-- remedy: Long-term: find what is opened or started and never closed: ls -l /proc/PID/fd, ps -T -p PID
--
-- At the limit the kernel refuses: fork and clone with EAGAIN, open, accept and socket with EMFILE.
SELECT * FROM tapio_exhaustion('pids fds', $horizon_seconds, $lookback_seconds, $critical_probability,
  $warning_probability)
