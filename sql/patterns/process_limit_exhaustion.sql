-- name: process_limit_exhaustion
-- title: Processes, threads, file descriptors or a heap run towards their limit
-- tables: resources, series
-- param: horizon_seconds float64 = 900 -- reaching the limit within this time counts
-- param: lookback_seconds float64 = 3600 -- rows older than this are not looked at
-- param: critical_probability float64 = 0.5 -- from here on critical
-- param: warning_probability float64 = 0.3 -- from here on a warning
-- remedy: Immediate: raise the limit, it buys time in proportion to the growth (that of a heap takes effect at the next start)
-- remedy: Immediate: restart the subject in a quiet moment, the growth starts again from the bottom
-- remedy: Long-term: find what is opened or started and never closed: ls -l /proc/PID/fd, ps -T -p PID
-- remedy: Long-term: a heap: let the runtime write it at the limit (-XX:+HeapDumpOnOutOfMemoryError, --heapsnapshot-near-heap-limit=1) and see what keeps it
--
-- At the limit the kernel refuses: fork and clone with EAGAIN, open, accept and socket with EMFILE.
-- A heap is full when its runtime says so, by an error of its own.
SELECT * FROM tapio_exhaustion('pids fds heap', $horizon_seconds, $lookback_seconds, $critical_probability,
  $warning_probability)
