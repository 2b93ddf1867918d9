-- Format 3: units may be reopened (an entry `reopened`), because the source has moved on since.
-- The tables are the same; a rehome that knows only format 2 would take such an entry for damage,
-- and refuses the file instead.

SELECT 1;
