-- Format 2: what the way back needs. The cache is rebuilt from the log after this step, so the
-- columns need no values of their own here.

ALTER TABLE unit ADD COLUMN done_intent_seq INTEGER;  -- the intent under which done_seq happened
ALTER TABLE unit ADD COLUMN undo_seq INTEGER;         -- the intent of the undo that is under way

CREATE INDEX unit_effect ON unit (kind, stage, id) WHERE done_seq IS NOT NULL;
