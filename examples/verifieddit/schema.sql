-- The tables of a small badge service on Cloudflare D1.
--
-- `users.clerk_id` is the primary key, so moving to another Clerk instance changes the key of every
-- row that hangs on it: badges, counters, and the ids hidden in the payloads of `events`.

CREATE TABLE users (
  clerk_id TEXT PRIMARY KEY,
  email TEXT,
  plan TEXT DEFAULT 'free',
  created_at DATETIME DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE badges (
  id TEXT PRIMARY KEY,
  owner_id TEXT NOT NULL REFERENCES users(clerk_id),
  url TEXT,
  domain TEXT,
  badge_type TEXT,
  status TEXT,
  created_at DATETIME DEFAULT CURRENT_TIMESTAMP,
  verified_at DATETIME,
  c2pa_manifest TEXT,
  original_thumbnail_url TEXT
);
CREATE INDEX badges_by_owner ON badges(owner_id);

CREATE TABLE badge_images (
  id TEXT PRIMARY KEY,
  badge_id TEXT REFERENCES badges(id),
  image_url TEXT,
  ai_score REAL,
  created_at DATETIME DEFAULT CURRENT_TIMESTAMP
);
CREATE INDEX badge_images_by_badge ON badge_images(badge_id);

-- An audit trail. The payload is JSON, usually with the acting user at $.actor.id.
CREATE TABLE events (
  id INTEGER PRIMARY KEY,
  kind TEXT,
  payload TEXT
);

-- Usage figures. `extra` has no type, so SQLite keeps whatever is put there.
CREATE TABLE counters (
  id INTEGER PRIMARY KEY,
  user_id TEXT REFERENCES users(clerk_id),
  hits INTEGER,
  ratio REAL,
  raw BLOB,
  note TEXT,
  extra
);
CREATE INDEX counters_by_user ON counters(user_id);
