-- name: memory_leak_oom
-- title: Memory grows towards its limit
-- tables: resources, series
SELECT 1
