//! What is asked of a table, in SQL.
//!
//! Each question has the same form: the key, then for each column its cell if it is one of those
//! that are asked for, of the rows beyond a key in which there is one. No cell belongs to two of
//! the passes that go together, so no id is told twice.

use rehome_core::{Halt, Kind};

use super::Prefix;
use crate::database::{Select, qualified, quote_name};
use crate::schema::Column;
use crate::value::{Value, hex};

/// A cell of at most this many bytes is short.
const SHORT: usize = 256;

/// Which cells are asked for.
#[derive(Debug)]
pub(super) enum Pass {
    /// Short ones that hold a word like an id.
    Short,
    /// Short ones that hold such a word and are not just that word.
    Among,
    /// Long ones that hold such a word.
    Long,
    /// Short ones that are one of the ids listed.
    Listed {
        kind: Kind,
        prefix: String,
        /// A JSON array of them.
        ids: String,
    },
}

impl Pass {
    /// A pass for these ids.
    pub(super) fn listed(prefix: &Prefix, ids: &[&str]) -> Result<Self, Halt> {
        let ids = serde_json::to_string(ids)
            .map_err(|error| Halt::Bug(format!("ids cannot be written: {error}")))?;
        Ok(Self::Listed { kind: prefix.kind.clone(), prefix: prefix.prefix.clone(), ids })
    }

    /// Rows of one page: short cells come by the thousands, long ones a hundred at a time.
    pub(super) const fn page(&self) -> usize {
        match self {
            Self::Short | Self::Among | Self::Listed { .. } => 2_000,
            Self::Long => 100,
        }
    }

    /// Whether ids of this kind are to be found by it.
    pub(super) fn seeks(&self, wanted: &Kind) -> bool {
        match self {
            Self::Short | Self::Among | Self::Long => true,
            Self::Listed { kind, .. } => kind == wanted,
        }
    }

    /// Whether a cell of this name is asked for.
    fn condition(&self, name: &str, prefixes: &[Prefix]) -> String {
        // Bytes are compared with bytes, so that broken text and blobs are searched as well.
        let bytes = format!("cast({name} as blob)");
        let starts = |prefix: &str| format!("instr({bytes}, x'{}')", hex(prefix.as_bytes()));
        let holds = any_of(&prefixes.iter().map(|one| starts(&one.prefix)).collect::<Vec<_>>());
        let sized = |sign: &str| {
            format!("typeof({name}) IN ('text','blob') AND octet_length({name}) {sign} {SHORT}")
        };
        match self {
            Self::Short => format!("{} AND {holds}", sized("<=")),
            Self::Long => format!("{} AND {holds}", sized(">")),
            Self::Among => {
                // GLOB ends at a NUL, so one that has any is never taken for a word alone.
                let alone: Vec<_> = prefixes
                    .iter()
                    .map(|one| {
                        let rest = one.prefix.len() + 1;
                        format!(
                            "{} = 1 AND octet_length({name}) >= {rest} \
                             AND instr({bytes}, x'00') = 0 \
                             AND cast(substr({bytes}, {rest}) as text) NOT GLOB '*[^A-Za-z0-9]*'",
                            starts(&one.prefix)
                        )
                    })
                    .collect();
                format!("{} AND {holds} AND NOT ({})", sized("<="), any_of(&alone))
            }
            // The beginning first: columns without any are not looked up in the list.
            Self::Listed { prefix, .. } => format!(
                "{} AND {} = 1 AND cast({name} as text) IN (SELECT j.value FROM json_each(?1) AS j)",
                sized("<="),
                starts(prefix)
            ),
        }
    }

    /// Asks for the rows with keys beyond `beyond` and up to `to`, in their order.
    pub(super) fn question(
        &self,
        place: &Place<'_>,
        beyond: Option<&[Value]>,
        to: Option<&[Value]>,
        page: usize,
    ) -> Select {
        let columns = qualified("t", place.key);
        let key = columns.join(", ");
        let mut inner = Vec::new();
        let mut outer = Vec::new();
        for (index, column) in columns.iter().enumerate() {
            inner.push(format!("{column} AS k{index}"));
            outer.push(format!("k{index}"));
        }
        let order = outer.join(", ");
        let mut any = Vec::new();
        for (index, column) in place.columns.iter().enumerate() {
            let name = format!("t.{}", quote_name(&column.name));
            let condition = self.condition(&name, place.prefixes);
            inner.push(format!("CASE WHEN {condition} THEN {name} END AS c{index}"));
            outer.push(format!("c{index}"));
            any.push(format!("({condition})"));
        }
        let mut conditions = Vec::new();
        for (sign, bound) in [(">", beyond), ("<=", to)] {
            if let Some(bound) = bound {
                let literals: Vec<_> = bound.iter().map(Value::to_sql).collect();
                conditions.push(format!("({key}) {sign} ({})", literals.join(", ")));
            }
        }
        conditions.push(any_of(&any));
        // Short names outside: a database may have to repeat each expression to read it exactly.
        let question = Select::new(
            outer,
            format!(
                "FROM (SELECT {} FROM {} AS t WHERE {} ORDER BY {key} LIMIT {page}) ORDER BY {order}",
                inner.join(", "),
                place.table,
                conditions.join(" AND "),
            ),
        );
        match self {
            Self::Short | Self::Among | Self::Long => question,
            Self::Listed { ids, .. } => question.with(ids.clone()),
        }
    }
}

/// What of a table is asked about.
pub(super) struct Place<'a> {
    /// The table, quoted.
    pub(super) table: String,
    /// The columns of its key, quoted.
    pub(super) key: &'a [String],
    pub(super) columns: &'a [&'a Column],
    pub(super) prefixes: &'a [Prefix],
}

/// Asks for every key by which a table falls into windows of so many rows.
pub(super) fn bounds(table: &str, key: &[String], rows: usize) -> Select {
    let names: Vec<String> = (0..key.len()).map(|index| format!("k{index}")).collect();
    let key = qualified("t", key);
    let named: Vec<_> =
        key.iter().zip(&names).map(|(column, name)| format!("{column} AS {name}")).collect();
    Select::new(
        names,
        format!(
            "FROM (SELECT {}, row_number() OVER (ORDER BY {}) AS n FROM {table} AS t) \
             WHERE n % {rows} = 0 ORDER BY n",
            named.join(", "),
            key.join(", "),
        ),
    )
}

/// A disjunction as a balanced tree: a chain of a hundred terms is deeper than D1 allows.
fn any_of(terms: &[String]) -> String {
    match terms {
        [] => "0".to_owned(),
        [one] => one.clone(),
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            format!("({} OR {})", any_of(left), any_of(right))
        }
    }
}
