-- name: tapio_check
-- title: x
SELECT 1
