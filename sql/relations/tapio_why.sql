-- name: tapio_why
-- title: x
SELECT 1
