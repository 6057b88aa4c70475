//! Table definitions, read from TOML, and what derives from them: Arrow schema and partition paths.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, SortOptions, TimeUnit};
use serde::Deserialize;

use crate::embedded;

/// Name of the partition column that every table has in its log; it is not a column of the rows.
pub const DATE_COLUMN: &str = "date";

const MICROS_PER_DAY: i64 = 86_400_000_000;

/// A table definition that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The TOML does not parse or has an unknown key.
    #[error("table definition {file}: {source}")]
    Syntax {
        /// The file.
        file: String,
        /// What the parser says, with line and column.
        source: Box<toml::de::Error>,
    },
    /// The definition parses but contradicts itself.
    #[error("table definition {file}: {message}")]
    Invalid {
        /// The file.
        file: String,
        /// What is wrong.
        message: String,
    },
}

/// The type of a column, by what it holds; [`ColumnType::arrow`] says how it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// Microseconds since the epoch, UTC.
    Timestamp,
    /// Signed 64-bit integer.
    Int64,
    /// Double.
    Float64,
    /// Truth value.
    Bool,
    /// Text that differs from row to row.
    Text,
    /// Text that repeats: dictionary-encoded.
    Label,
    /// Text to text.
    Map,
    /// Signed 64-bit integers, none of them NULL; how many, and what each is, the column's description says.
    #[serde(rename = "list<int64>")]
    Int64List,
}

impl ColumnType {
    /// The one Arrow type of such a column, for hot and for stored rows.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Bool => DataType::Boolean,
            Self::Text => DataType::Utf8,
            Self::Label => {
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
            }
            Self::Map => {
                let entries = Fields::from(vec![
                    Field::new("keys", DataType::Utf8, false),
                    Field::new("values", DataType::Utf8, true),
                ]);
                DataType::Map(
                    Arc::new(Field::new("entries", DataType::Struct(entries), false)),
                    false,
                )
            }
            Self::Int64List => {
                DataType::List(Arc::new(Field::new("element", DataType::Int64, false)))
            }
        }
    }
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnDef {
    /// Name, snake case, with the unit as suffix where it has one.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub ty: ColumnType,
    /// Unit in UCUM notation, as OpenTelemetry writes it (`By`, `us`, `s`, `1`).
    pub unit: Option<String>,
    /// Whether NULL may stand for "not known".
    #[serde(default = "yes")]
    pub nullable: bool,
    /// Whether a time may lie where no clock of a collector does, before 1970 or after 2200: a date that others wrote.
    #[serde(default)]
    pub any_date: bool,
    /// One sentence.
    pub description: String,
}

fn yes() -> bool {
    true
}

/// One table: its columns, their order on disk and how long they are kept.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableDef {
    /// Name, also the folder in the store.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// Raised when a column is added; an older binary refuses to write a newer table.
    pub schema_version: u32,
    /// Columns by which every file is sorted, ascending, NULLs first.
    pub sort_key: Vec<String>,
    /// The partition column of the log; always `date`.
    pub partition: String,
    /// Days after which rows may be dropped.
    pub retention_days: u32,
    /// Columns in order.
    pub columns: Vec<ColumnDef>,
    #[serde(skip)]
    schema: Option<SchemaRef>,
}

impl TableDef {
    /// Reads a definition; `file` is named in errors.
    pub fn from_toml(file: &str, text: &str) -> Result<Self, TableError> {
        let mut def: Self = toml::from_str(text).map_err(|source| TableError::Syntax {
            file: file.to_owned(),
            source: Box::new(source),
        })?;
        let invalid = |message: String| TableError::Invalid { file: file.to_owned(), message };
        if file != format!("{}.toml", def.name) {
            return Err(invalid(format!("is named {:?}", def.name)));
        }
        if def.partition != DATE_COLUMN {
            return Err(invalid(format!("partition must be {DATE_COLUMN:?}")));
        }
        for required in ["ts", "observed_at"] {
            match def.column(required) {
                Some(c) if c.ty == ColumnType::Timestamp && !c.nullable => {}
                _ => {
                    return Err(invalid(format!("needs a non-null timestamp column {required:?}")));
                }
            }
        }
        for key in &def.sort_key {
            if def.column(key).is_none() {
                return Err(invalid(format!("sort key {key:?} is not a column")));
            }
        }
        for (i, c) in def.columns.iter().enumerate() {
            if def.columns[..i].iter().any(|d| d.name == c.name) || c.name == DATE_COLUMN {
                return Err(invalid(format!("column {:?} stands twice", c.name)));
            }
        }
        let fields: Fields =
            def.columns.iter().map(|c| Field::new(&c.name, c.ty.arrow(), c.nullable)).collect();
        def.schema = Some(Arc::new(Schema::new(fields)));
        Ok(def)
    }

    /// The Arrow schema of the rows, hot and stored.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone().unwrap_or_else(|| Arc::new(Schema::empty()))
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&ColumnDef> {
        self.columns.iter().find(|c| c.name == name)
    }

    /// Position of a column in the schema.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// How files are sorted: column positions with their options (ascending, NULLs first).
    pub fn sort_columns(&self) -> Vec<(usize, SortOptions)> {
        let options = SortOptions { descending: false, nulls_first: true };
        self.sort_key.iter().filter_map(|k| self.index_of(k).map(|i| (i, options))).collect()
    }
}

/// The tables that Tapio knows, by name.
#[derive(Debug)]
pub struct Catalog {
    tables: BTreeMap<String, Arc<TableDef>>,
}

impl Catalog {
    /// The table of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<TableDef>> {
        self.tables.get(name)
    }

    /// All tables, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TableDef>> {
        self.tables.values()
    }
}

/// The tables that are compiled in.
///
/// # Panics
/// If an embedded definition is broken, which the tests of this crate rule out.
#[allow(clippy::panic)]
pub fn catalog() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| Catalog {
        tables: embedded::TABLES
            .iter()
            .map(|(file, text)| match TableDef::from_toml(file, text) {
                Ok(def) => (def.name.clone(), Arc::new(def)),
                Err(e) => panic!("{e}"),
            })
            .collect(),
    });
    &CATALOG
}

/// The UTC date (`YYYY-MM-DD`) of a time in microseconds.
pub fn date_of(ts_us: i64) -> String {
    // Civil from days, proleptic Gregorian (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms").
    let z = ts_us.div_euclid(MICROS_PER_DAY) + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// Folder of a partition below the table's folder, hive style.
pub fn partition_path(date: &str) -> String {
    format!("{DATE_COLUMN}={date}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_tables_are_sound_and_described() {
        let names: Vec<_> = catalog().iter().map(|t| t.name.as_str()).collect();
        let expected = [
            "block",
            "certificates",
            "dns",
            "edges",
            "events",
            "flows",
            "health",
            "http",
            "insights",
            "predictions",
            "resources",
            "series",
        ];
        for expected in expected {
            assert!(names.contains(&expected), "{expected} is missing in {names:?}");
        }
        for t in catalog().iter() {
            for c in &t.columns {
                assert!(c.description.ends_with('.'), "{}.{}", t.name, c.name);
                let unit_suffix = ["_bytes", "_us", "_seconds"].iter().any(|s| c.name.ends_with(s));
                assert!(!unit_suffix || c.unit.is_some(), "{}.{} has no unit", t.name, c.name);
            }
        }
    }

    #[test]
    fn a_broken_definition_names_file_and_fault() {
        let e = TableDef::from_toml("x.toml", "name = 3").unwrap_err().to_string();
        assert!(e.starts_with("table definition x.toml:"), "{e}");
        let text = "name='x'\ndescription='d'\nschema_version=1\nsort_key=['nope']\npartition='date'\nretention_days=1\n\
                    [[columns]]\nname='ts'\ntype='timestamp'\nnullable=false\ndescription='t.'\n\
                    [[columns]]\nname='observed_at'\ntype='timestamp'\nnullable=false\ndescription='t.'\n";
        let e = TableDef::from_toml("x.toml", text).unwrap_err().to_string();
        assert!(e.contains("sort key \"nope\" is not a column"), "{e}");
    }

    #[test]
    fn dates_are_civil() {
        assert_eq!(date_of(0), "1970-01-01");
        assert_eq!(date_of(-1), "1969-12-31");
        assert_eq!(date_of(951_782_400_000_000), "2000-02-29");
        assert_eq!(date_of(1_795_392_000_000_000 - 1), "2026-11-22");
        assert_eq!(partition_path("2026-11-23"), "date=2026-11-23");
    }
}
