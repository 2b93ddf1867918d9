//! Every shape of table: a schema for both sides, rows of the source, and rows that the target has
//! of its own. Texts of the source that begin with `user_` are ids, and nothing else does.

use std::fmt::Write as _;

/// One shape: a schema for both sides, and rows for each.
#[derive(Clone, Default)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) schema: String,
    pub(crate) ids: &'static [&'static str],
    pub(crate) source: String,
    pub(crate) target: String,
    /// It does not fit into D1.
    pub(crate) only_sqlite: bool,
}

fn shape(
    name: &'static str,
    schema: &str,
    ids: &'static [&'static str],
    source: &str,
    target: &str,
) -> Shape {
    let (schema, source, target) = (schema.to_owned(), source.to_owned(), target.to_owned());
    Shape { name, schema, ids, source, target, only_sqlite: false }
}

/// Every shape of table.
pub(crate) fn shapes() -> Vec<Shape> {
    vec![
        shape(
            "composite and text keys",
            "CREATE TABLE orgs (slug TEXT PRIMARY KEY NOT NULL COLLATE NOCASE, owner TEXT);
             CREATE TABLE members (org TEXT REFERENCES orgs(slug), user TEXT, n INT, role TEXT,
                 PRIMARY KEY (org, user, n));",
            &["orgs.owner", "members.user"],
            "INSERT INTO orgs VALUES ('b','user_a'), ('A','user_b'), ('é',NULL);
             INSERT INTO members VALUES ('b','user_a',1,'x'), ('b','user_a',2,NULL),
                 ('a','user_b',-1,'y'), ('é','user_c',0,'');",
            "INSERT INTO orgs VALUES ('own','own_1'); INSERT INTO members VALUES ('own','own_1',1,'');",
        ),
        shape(
            "WITHOUT ROWID",
            "CREATE TABLE likes (user TEXT, at INTEGER, what, PRIMARY KEY (at DESC, user)) WITHOUT ROWID;",
            &["likes.user"],
            "INSERT INTO likes VALUES ('user_a',1,1.0), ('user_b',1,1), ('user_a',2,x'00'), ('user_c',9007199254740993,NULL);",
            "INSERT INTO likes VALUES ('own_1',1,'mine');",
        ),
        shape(
            "no key, and a key with NULL in it",
            "CREATE TABLE log (payload TEXT, n); CREATE TABLE soft (code TEXT PRIMARY KEY, who TEXT);",
            &["log.payload:$.actor", "soft.who"],
            "INSERT INTO log VALUES ('{\"actor\":\"user_a\"}',1), ('{\"actor\":\"user_a\"}',1), (NULL,NULL), ('text',x'');
             INSERT INTO soft VALUES (NULL,'user_b'), (NULL,'user_b'), ('c','user_c');",
            "INSERT INTO log(rowid, payload) VALUES (90,'own'); INSERT INTO soft(rowid, code) VALUES (90,'own');",
        ),
        shape(
            "AUTOINCREMENT",
            "CREATE TABLE posts (id INTEGER PRIMARY KEY AUTOINCREMENT, author TEXT);
             CREATE TABLE drafts (id INTEGER PRIMARY KEY AUTOINCREMENT, author TEXT);",
            &["posts.author", "drafts.author"],
            "INSERT INTO posts VALUES (1,'user_a'), (5,'user_b'), (900,'user_c'); DELETE FROM posts WHERE id = 900;
             INSERT INTO drafts VALUES (3,'user_a');",
            "INSERT INTO posts VALUES (70,'own_1'); INSERT INTO drafts VALUES (70,'own_1');",
        ),
        shape(
            "generated columns",
            "CREATE TABLE docs (id INTEGER PRIMARY KEY, data TEXT NOT NULL,
                 owner TEXT GENERATED ALWAYS AS (data->>'$.by') VIRTUAL,
                 size INT AS (length(data->>'$.t')) STORED, title TEXT AS (upper(data->>'$.t')) STORED UNIQUE);
             CREATE INDEX by_owner ON docs (owner);",
            &["docs.data:$.by"],
            "INSERT INTO docs(id, data) VALUES (1,'{\"by\":\"user_a\",\"t\":\"x\"}'), (2,'{\"by\":\"user_b\",\"t\":\"y\"}'), (3,'{}');",
            "INSERT INTO docs(id, data) VALUES (9,'{\"by\":\"own\",\"t\":\"own\"}');",
        ),
        shape(
            "STRICT and untyped",
            "CREATE TABLE s (id INTEGER PRIMARY KEY, who TEXT NOT NULL, i INT, r REAL, b BLOB, a ANY) STRICT;
             CREATE TABLE u (id, who, v); CREATE UNIQUE INDEX u_id ON u (id);",
            &["s.who", "u.who"],
            "INSERT INTO s VALUES (1,'user_a',9223372036854775807,1.0,x'00ff',1.0), (2,'user_b',-1,0.1,NULL,'1'), (3,'user_c',NULL,9e999,x'',x'01');
             INSERT INTO u VALUES (1,'user_a',1.0), (1.5,'user_b',1), ('1','user_c','1.0'), (x'31',NULL,cast(x'ff00c328' AS text));",
            "INSERT INTO s VALUES (90,'own',1,1,x'',1); INSERT INTO u(rowid, id) VALUES (90,'own');",
        ),
        shape(
            "CHECK, UNIQUE, partial and expression indexes, ON CONFLICT",
            "CREATE TABLE a (id INTEGER PRIMARY KEY ON CONFLICT REPLACE, who TEXT CHECK (who <> ''),
                 mail TEXT UNIQUE ON CONFLICT IGNORE, kind TEXT DEFAULT 'k' NOT NULL, gone INT,
                 CHECK (kind IN ('k','l')));
             CREATE UNIQUE INDEX a_live ON a (kind, who) WHERE gone IS NULL;
             CREATE UNIQUE INDEX a_lower ON a (lower(mail)) WHERE mail IS NOT NULL;
             CREATE INDEX a_len ON a (length(mail) DESC);",
            &["a.who"],
            "INSERT INTO a VALUES (1,'user_a','A@x','k',NULL), (2,'user_a','b@x','k',1), (3,'user_b',NULL,'l',NULL);",
            "INSERT INTO a VALUES (90,'own','own@x','k',NULL);",
        ),
        shape(
            "self-references, circles, cascades",
            "CREATE TABLE users (clerk_id TEXT PRIMARY KEY, best TEXT REFERENCES teams(id) ON UPDATE CASCADE ON DELETE SET NULL,
                 boss TEXT REFERENCES users(clerk_id) ON UPDATE CASCADE ON DELETE CASCADE);
             CREATE TABLE teams (id TEXT PRIMARY KEY, lead TEXT NOT NULL REFERENCES users(clerk_id) ON UPDATE CASCADE ON DELETE CASCADE);
             CREATE TABLE nodes (id INTEGER PRIMARY KEY, up INT REFERENCES nodes(id) ON DELETE CASCADE, who TEXT REFERENCES users(clerk_id));",
            &["users.clerk_id"],
            "INSERT INTO users VALUES ('user_a','t2','user_b'), ('user_b','t1','user_a'), ('user_c',NULL,'user_c');
             INSERT INTO teams VALUES ('t1','user_a'), ('t2','user_b');
             INSERT INTO nodes VALUES (1,3,'user_a'), (2,1,'user_b'), (3,2,'user_c'), (4,4,NULL);",
            "INSERT INTO users VALUES ('own','t9','own'); INSERT INTO teams VALUES ('t9','own'); INSERT INTO nodes VALUES (90,90,'own');",
        ),
        triggers(),
        shape(
            "full text with content of its own, and an R*Tree",
            "CREATE TABLE notes (id INTEGER PRIMARY KEY, who TEXT);
             CREATE VIRTUAL TABLE pages USING fts5(title, who UNINDEXED, body, tokenize = 'porter');
             CREATE VIRTUAL TABLE spots USING rtree(id, minx, maxx, miny, maxy, +label TEXT);",
            &["notes.who", "pages.who"],
            "INSERT INTO notes VALUES (1,'user_a');
             INSERT INTO pages(rowid, title, who, body) VALUES (5,'one','user_a','running'), (7,NULL,'user_b',2.5), (9,'x','user_c',x'00');
             INSERT INTO spots VALUES (3,0.1,0.2,-1,1e9,'a'), (4,1,2,3,4,NULL);",
            "INSERT INTO pages(rowid, title, who) VALUES (90,'own','own'); INSERT INTO spots VALUES (90,1,2,3,4,'own');",
        ),
        shape(
            "full-text indexes kept by triggers",
            &format!(
                "CREATE TABLE docs (id INTEGER PRIMARY KEY, who TEXT, title TEXT, body TEXT);
                 CREATE VIRTUAL TABLE docs_fts USING fts5(title, body, content='docs', content_rowid='id');
                 CREATE VIRTUAL TABLE \"docs bare\" USING fts5(title, content = '', contentless_delete=1);
                 CREATE VIRTUAL TABLE docs_copy USING fts5(title, who);
                 {KEEPERS}"
            ),
            &["docs.who"],
            "INSERT INTO docs VALUES (1,'user_a','hello world','first'), (2,'user_b','hello again',NULL), (3,'user_c','','third');
             UPDATE docs SET body = 'second' WHERE id = 2; DELETE FROM docs WHERE id = 3;",
            "INSERT INTO docs VALUES (90,'own','my own words','here');",
        ),
        wide("100 columns", 100, false),
        wide("400 columns", 400, true),
        shape(
            "names that need quoting",
            "CREATE TABLE \"order\" (\"select\" INTEGER PRIMARY KEY, \"from\" TEXT, [group by] TEXT, `a\"b` TEXT, \"it's\" TEXT, \"x]y\" INT, \"?1\" TEXT);
             CREATE TABLE \"a \"\"b\"\" 'c' é 😀\" (\"rowid\" TEXT, \"Oid\" TEXT, \"_rowid_\" TEXT PRIMARY KEY NOT NULL, \"j\" TEXT, \"t\" TEXT, \"p\" TEXT);
             CREATE TABLE \"values\" (\"key\" TEXT REFERENCES \"order\"(\"select\"), \"value\" TEXT, PRIMARY KEY (\"key\", \"value\")) WITHOUT ROWID;
             CREATE TRIGGER \"after \"\"it\"\"\" AFTER INSERT ON \"order\" BEGIN\n DELETE FROM \"values\" ;\n END;
             CREATE TABLE UPPER (Id TEXT PRIMARY KEY, Who TEXT);",
            &["order.from", "a \"b\" 'c' é 😀.t", "values.value", "upper.who"],
            "INSERT INTO \"order\" VALUES (1,'user_a','g','q','i',1,'p'), (2,'user_b','','','',2,NULL);
             INSERT INTO \"a \"\"b\"\" 'c' é 😀\" VALUES ('r','o','1','j','user_a','p'), (NULL,NULL,'2',NULL,'user_c',NULL);
             INSERT INTO \"values\" VALUES ('1','user_a'), ('2','user_b'); INSERT INTO UPPER VALUES ('x','user_c');",
            "INSERT INTO \"order\"(\"select\") VALUES (90); INSERT INTO \"values\" VALUES ('90','own');",
        ),
        shape(
            "rows near 2 MB and blobs above 1 MB",
            "CREATE TABLE files (id INTEGER PRIMARY KEY, who TEXT, body BLOB, text TEXT); CREATE TABLE more (k TEXT, v BLOB);",
            &["files.who"],
            "WITH RECURSIVE x(b) AS (SELECT randomblob(1200000))
             INSERT INTO files SELECT 1,'user_a',b,substr(replace(hex(b),'0','é'),1,300000) FROM x;
             INSERT INTO files VALUES (2,'user_b',randomblob(1990000),NULL), (3,'user_c',NULL,printf('%.*c',1990000,'x')), (4,NULL,x'00',cast(x'ff00' AS text));
             INSERT INTO more VALUES ('a',randomblob(1900000)), (NULL,zeroblob(1100000));",
            "INSERT INTO files VALUES (90,'own',x'01','own');",
        ),
        shape(
            "views and what they show",
            "CREATE TABLE a (id INTEGER PRIMARY KEY, who TEXT, n INT);
             CREATE VIEW v AS SELECT who, sum(n) AS total FROM a GROUP BY who;
             CREATE TRIGGER v_in INSTEAD OF INSERT ON v BEGIN\n INSERT INTO a(who, n) VALUES (new.who, new.total) ;\n END;",
            &["a.who"],
            "INSERT INTO a VALUES (1,'user_a',1), (2,'user_a',2), (3,'user_b',3);",
            "INSERT INTO v VALUES ('own', 5); UPDATE a SET id = 90;",
        ),
    ]
}

/// Triggers that log, count, refuse and change rows, on parents and children, with cascades.
pub(crate) fn triggers() -> Shape {
    shape(
        "triggers",
        "CREATE TABLE users (clerk_id TEXT PRIMARY KEY, name TEXT, posts INT DEFAULT 0, changed INT DEFAULT 0);
         CREATE TABLE posts (id INTEGER PRIMARY KEY AUTOINCREMENT, who TEXT NOT NULL REFERENCES users(clerk_id) ON DELETE CASCADE,
             answer INT REFERENCES posts(id) ON DELETE SET NULL, body TEXT);
         CREATE TABLE audit (what TEXT, who TEXT);
         CREATE TRIGGER posts_count AFTER INSERT ON posts BEGIN
             UPDATE users SET posts = posts + 1 WHERE clerk_id = new.who ;
             INSERT INTO audit VALUES ('post', new.who) ;
         END;
         CREATE TRIGGER posts_gone BEFORE DELETE ON posts WHEN old.body IS NOT NULL BEGIN
             INSERT INTO audit VALUES ( CASE WHEN old.id > 5 THEN 'late; gone' ELSE 'gone' END , old.who) ;
         END;
         CREATE TRIGGER users_stay BEFORE DELETE ON users BEGIN
             SELECT RAISE(ABORT, 'users stay') ;
         END;
         CREATE TRIGGER \"users touch\" AFTER UPDATE OF name ON Users BEGIN
             UPDATE users SET changed = changed + 1 WHERE clerk_id = new.clerk_id ;
         END;
         CREATE TRIGGER users_welcome AFTER INSERT ON users BEGIN
             INSERT INTO audit VALUES ('welcome', new.clerk_id) ;
         END;",
        &["users.clerk_id", "audit.who"],
        "INSERT INTO users(clerk_id, name) VALUES ('user_a','Ann'), ('user_b','Bob'), ('user_c',NULL);
         INSERT INTO posts VALUES (1,'user_a',NULL,'x'), (2,'user_b',3,'y'), (3,'user_a',2,NULL);
         UPDATE users SET name = 'Cid' WHERE clerk_id = 'user_c';",
        "INSERT INTO users(clerk_id, name) VALUES ('own','Own'); INSERT INTO posts VALUES (90,'own',90,'mine');
         UPDATE audit SET rowid = rowid + 100;",
    )
}

const KEEPERS: &str = "
    CREATE TRIGGER docs_ai AFTER INSERT ON docs BEGIN
        INSERT INTO docs_fts(rowid, title, body) VALUES (new.id, new.title, new.body);
    END;
    CREATE TRIGGER docs_ad AFTER DELETE ON docs BEGIN
        INSERT INTO docs_fts(docs_fts, rowid, title, body) VALUES ('delete', old.id, old.title, old.body);
    END;
    CREATE TRIGGER docs_au AFTER UPDATE ON docs BEGIN
        INSERT INTO docs_fts(docs_fts, rowid, title, body) VALUES ('delete', old.id, old.title, old.body);
        INSERT INTO docs_fts(rowid, title, body) VALUES (new.id, new.title, new.body);
    END;
    create trigger bare_i after insert on docs begin insert into \"docs bare\"(rowid, title) values (new.id, new.title); end;
    create trigger bare_d after delete on docs begin delete from \"docs bare\" where rowid = old.id; end;
    create trigger bare_u after update of title on docs begin
        update \"docs bare\" set title = new.title where rowid = old.id; end;
    CREATE TRIGGER copy_i AFTER INSERT ON docs BEGIN INSERT INTO docs_copy(rowid, title, who) VALUES (new.id, new.title, new.who); END;
    CREATE TRIGGER copy_d AFTER DELETE ON docs BEGIN DELETE FROM docs_copy WHERE rowid = old.id; END;
    CREATE TRIGGER copy_u AFTER UPDATE ON docs BEGIN UPDATE docs_copy SET title = new.title, who = new.who WHERE rowid = old.id; END;";

/// A table of so many columns, of all storage classes, with an id in the last but one.
fn wide(name: &'static str, columns: usize, only_sqlite: bool) -> Shape {
    let mut schema = "CREATE TABLE wide (id INTEGER PRIMARY KEY".to_owned();
    let mut values = String::new();
    for n in 1..columns {
        if n == columns - 2 {
            schema.push_str(", who TEXT");
            values.push_str(", 'user_' || v");
        } else {
            write!(schema, ", column_{n}_of_a_wide_table").unwrap();
            let value =
                ["n + 0.5", "'t' || v", "x'00ff'", "NULL", "n * 1.0", "9007199254740993 + n"];
            write!(values, ", {}", value[n % 6].replace('n', &n.to_string())).unwrap();
        }
    }
    schema.push_str(");");
    let of = |keys: &str| format!("INSERT INTO wide SELECT k{values} FROM ({keys});");
    Shape {
        name,
        schema,
        ids: &["wide.who"],
        source: of("SELECT 1 AS k, 'a' AS v UNION ALL SELECT 2, 'b' UNION ALL SELECT 3, 'c'"),
        target: of("SELECT 90 AS k, 'own' AS v").replace("'user_'", "'own_'"),
        only_sqlite,
    }
}
