-- A dozen users of the badge service and what belongs to them.
--
-- `user_` and 27 characters is the form of Clerk's ids. The last user has no email address and owns
-- nothing. Run schema.sql first.

INSERT INTO users (clerk_id, email, plan, created_at) VALUES
  ('user_2WK59PFkl0JfI2yyVlbPegBPrUh', 'ada@example.com', 'pro', '2026-01-03 00:15:00'),
  ('user_2RZdsvDQuc8dWrdE03WKpm15UEL', 'benoit@example.org', 'free', '2026-02-04 01:15:00'),
  ('user_2hUOuZAzHx4LP4AzUdIG1OHqtti', 'chiara.rossi@example.com', 'free', '2026-03-05 02:15:00'),
  ('user_2dvRzFRYToraZB3DO7GWIQtUlmO', 'dmitri@example.net', 'team', '2026-04-06 03:15:00'),
  ('user_2S6ECJSRO5k0A8Uci0qRhSBHpvk', 'elif@example.com', 'free', '2026-05-07 04:15:00'),
  ('user_2TSOsq63Hvzl8IBtPnRNbzoc51F', 'FARAH@Example.com', 'pro', '2026-06-08 05:15:00'),
  ('user_2eogdvbzDp8mFmQp5zvqYMtrb1u', 'goran+badges@example.com', 'free', '2026-07-09 06:15:00'),
  ('user_2vZwnZuDMjJxyZLLKcgTAOGSf9u', 'hana@example.jp', 'free', '2026-08-10 07:15:00'),
  ('user_2ih4vmuGMGKAuWfpTbmRsHdRXfr', 'inés@example.es', 'free', '2026-09-11 08:15:00'),
  ('user_28nBNXYK7Gh5Qhy50B7P6nLsbWs', 'ivan@example.com', 'team', '2026-01-12 09:15:00'),
  ('user_2XAJKil8Krk3QCI33jOqw5LoVFq', 'joao@example.com.br', 'free', '2026-02-13 00:15:00'),
  ('user_2xtpuPzNP3MzTtpcqpyZ9NfUl36', NULL, 'free', '2026-03-14 01:15:00');

INSERT INTO badges (id, owner_id, url, domain, badge_type, status, created_at, verified_at,
  c2pa_manifest, original_thumbnail_url) VALUES
  ('badge_001', 'user_2WK59PFkl0JfI2yyVlbPegBPrUh', 'https://ada.example.com/portfolio', 'ada.example.com', 'original', 'verified', '2026-02-01 10:00:00', '2026-02-02 08:30:00',
    '{"claim":"c2pa","generator":"camera"}', 'https://img.example.com/ada-1.jpg'),
  ('badge_002', 'user_2WK59PFkl0JfI2yyVlbPegBPrUh', 'https://ada.example.com/blog', 'ada.example.com', 'human-written', 'pending', '2026-02-03 11:00:00', NULL,
    NULL, NULL),
  ('badge_003', 'user_2RZdsvDQuc8dWrdE03WKpm15UEL', 'https://photos.example.org/album?id=7&view=full', 'photos.example.org', 'original', 'verified', '2026-02-04 12:00:00', '2026-02-04 12:05:00',
    '{"claim":"c2pa"}', 'https://img.example.com/benoit-1.jpg'),
  ('badge_004', 'user_2hUOuZAzHx4LP4AzUdIG1OHqtti', 'https://chiara.example.com/l''atelier', 'chiara.example.com', 'original', 'rejected', '2026-02-05 09:00:00', NULL,
    NULL, NULL),
  ('badge_005', 'user_2dvRzFRYToraZB3DO7GWIQtUlmO', 'https://studio.example.net', 'studio.example.net', 'ai-assisted', 'verified', '2026-02-06 07:00:00', '2026-02-09 07:00:00',
    NULL, 'https://img.example.com/studio.png'),
  ('badge_006', 'user_2dvRzFRYToraZB3DO7GWIQtUlmO', 'https://studio.example.net/team', 'studio.example.net', 'human-written', 'verified', '2026-02-07 07:00:00', '2026-02-09 07:01:00',
    NULL, NULL),
  ('badge_007', 'user_2TSOsq63Hvzl8IBtPnRNbzoc51F', 'https://farah.example.com', 'farah.example.com', 'original', 'pending', '2026-02-08 18:20:00', NULL,
    NULL, ''),
  ('badge_008', 'user_2ih4vmuGMGKAuWfpTbmRsHdRXfr', 'https://inés.example.es', 'xn--ins-dma.example.es', 'original', 'verified', '2026-02-10 20:00:00', '2026-02-11 20:00:00',
    NULL, NULL);

INSERT INTO badge_images (id, badge_id, image_url, ai_score, created_at) VALUES
  ('image_001', 'badge_001', 'https://img.example.com/ada-1.jpg', 0.02, '2026-02-12 00:00:00'),
  ('image_002', 'badge_001', 'https://img.example.com/ada-2.jpg', 0.0, '2026-02-12 01:00:00'),
  ('image_003', 'badge_003', 'https://img.example.com/benoit-1.jpg', 0.1, '2026-02-12 02:00:00'),
  ('image_004', 'badge_005', 'https://img.example.com/studio-1.jpg', 0.97, '2026-02-12 03:00:00'),
  ('image_005', 'badge_005', 'https://img.example.com/studio-2.jpg', 1.0, '2026-02-12 04:00:00'),
  ('image_006', 'badge_008', 'https://img.example.com/ines-1.jpg', NULL, '2026-02-12 05:00:00');

-- Payloads as applications write them: with an actor, with an actor that is no user, without one,
-- a JSON array, and none at all.
INSERT INTO events (id, kind, payload) VALUES
  (1, 'badge.created', '{"actor":{"id":"user_2WK59PFkl0JfI2yyVlbPegBPrUh","role":"owner"},"badge":"badge_001"}'),
  (2, 'badge.verified', '{"actor":{"id":"user_2RZdsvDQuc8dWrdE03WKpm15UEL"},"badge":"badge_003","score":0.9993085117599}'),
  (3, 'badge.rejected', '{"badge":"badge_004","actor":{"id":"user_2hUOuZAzHx4LP4AzUdIG1OHqtti"},"snowflake":4959520537444830692}'),
  (4, 'plan.changed', '{"actor": {"id": "user_2dvRzFRYToraZB3DO7GWIQtUlmO"}, "from": "free", "to": "team"}'),
  (5, 'sweep', '{"actor":{"id":null},"removed":0}'),
  (6, 'sweep', '{"removed":3}'),
  (7, 'import', '["badge_005","badge_006"]'),
  (8, 'ping', NULL);

-- Values that a careless copy damages: integers that JavaScript cannot hold, a whole number as REAL
-- in a column without a type, bytes, a NUL inside text, text that is not UTF-8, nothing, and "".
INSERT INTO counters (id, user_id, hits, ratio, raw, note, extra) VALUES
  (1, 'user_2WK59PFkl0JfI2yyVlbPegBPrUh', 9223372036854775807, 0.1, x'00ff10', 'a plain note', 1.0),
  (2, 'user_2RZdsvDQuc8dWrdE03WKpm15UEL', -9223372036854775808, 1.0, x'', '', 1),
  (3, 'user_2hUOuZAzHx4LP4AzUdIG1OHqtti', 4959520537444830692, 749.3085117599, NULL, cast(x'6200006e' AS TEXT), '1'),
  (4, 'user_2dvRzFRYToraZB3DO7GWIQtUlmO', 9007199254740993, 1e300, x'c3', cast(x'c3286f6b' AS TEXT), x'31'),
  (5, 'user_2TSOsq63Hvzl8IBtPnRNbzoc51F', 0, -0.5, x'7b7d', 'line' || char(10) || 'with \n written out', NULL),
  (6, NULL, NULL, NULL, NULL, NULL, 1e15);
