-- Format 2: what the way back needs. The cache is rebuilt from the log after this step, so the
-- columns need no values of their own here.

ALTER TABLE unit ADD COLUMN done_intent_seq INTEGER;  -- the intent under which done_seq happened
ALTER TABLE unit ADD COLUMN undo_seq INTEGER;         -- the intent of the undo that is under way
-- What is known of the intents of the present stage, besides the recorded effect: 0 something of
-- them may be there, 1 nothing is, 2 nothing but perhaps of the latest, which is under way.
ALTER TABLE unit ADD COLUMN void INTEGER NOT NULL DEFAULT 0;

CREATE INDEX unit_effect ON unit (kind, stage, id) WHERE done_seq IS NOT NULL;
