-- name: tapio_fixes
-- title: x
SELECT 1
