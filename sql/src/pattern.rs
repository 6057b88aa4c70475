//! Patterns and relations: SQL files with a comment header.
//!
//! The header is the run of `-- key: value` lines at the top:
//!
//! ```text
//! -- name: memory_leak_oom
//! -- title: Memory grows towards its limit
//! -- tables: resources, series
//! -- param: horizon_seconds float64 = 900 -- how far ahead an event counts
//! -- remedy: Raise the memory limit
//! ```
//!
//! Parameters stand in the SQL as `$name`; `$as_of` (timestamp) is always there.

use std::{collections::BTreeMap, fs, mem, path::Path, sync::LazyLock};

use crate::embedded;

/// Why a pattern or relation file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    /// A header line is wrong or missing.
    #[error("{file}:{line}: {message}")]
    Header {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// What is wrong and what is expected.
        message: String,
    },
    /// The file or folder cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The path.
        path: String,
        /// The reason.
        source: std::io::Error,
    },
}

/// Type of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterType {
    /// Double.
    Float64,
    /// Signed 64-bit integer.
    Int64,
    /// Text.
    Text,
}

/// Value of a parameter.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum ParameterValue {
    Float64(f64),
    Int64(i64),
    Text(String),
}

/// A parameter of a pattern or relation.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Name, used as `$name`.
    pub name: String,
    /// Type.
    pub ty: ParameterType,
    /// What it is unless the user says otherwise; a relation's parameter without default must be given.
    pub default: Option<ParameterValue>,
    /// One phrase.
    pub description: String,
}

#[derive(Debug, Clone, Default)]
struct Header {
    name: String,
    title: String,
    tables: Vec<String>,
    parameters: Vec<Parameter>,
    remedies: Vec<String>,
}

/// A finding as SQL. Its output columns are the contract of DESIGN §5; `query` checks them when it plans the pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    /// Name, also of the file.
    pub name: String,
    /// One line for a human.
    pub title: String,
    /// The tables it reads.
    pub tables: Vec<String>,
    /// Parameters with defaults.
    pub parameters: Vec<Parameter>,
    /// What may help, most effective first.
    pub remedies: Vec<String>,
    /// The statement.
    pub sql: String,
}

/// A relation as SQL: a view if it has no parameters, else a table function.
#[derive(Debug, Clone)]
pub struct Relation {
    /// Name, also of the file and in SQL.
    pub name: String,
    /// One line for a human.
    pub title: String,
    /// Parameters in the order of the arguments.
    pub parameters: Vec<Parameter>,
    /// The statement.
    pub sql: String,
}

impl Pattern {
    /// Reads a pattern; `file` is named in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, PatternError> {
        let h = header(file, text)?;
        let missing = |message: &str| PatternError::Header {
            file: file.into(),
            line: 1,
            message: message.into(),
        };
        if h.tables.is_empty() {
            return Err(missing("needs a line `-- tables: NAME, ...`"));
        }
        if let Some(p) = h.parameters.iter().find(|p| p.default.is_none()) {
            return Err(missing(&format!("parameter {:?} needs a default", p.name)));
        }
        Ok(Self {
            name: h.name,
            title: h.title,
            tables: h.tables,
            parameters: h.parameters,
            remedies: h.remedies,
            sql: text.to_owned(),
        })
    }
}

/// All patterns, by name: those compiled in and those of the user.
#[derive(Debug, Clone, Default)]
pub struct PatternCatalog {
    patterns: BTreeMap<String, Pattern>,
}

impl PatternCatalog {
    /// The patterns that are compiled in.
    ///
    /// # Errors
    /// If one of them is broken, which the tests of this crate rule out.
    pub fn builtin() -> Result<Self, PatternError> {
        let mut catalog = Self::default();
        for (file, text) in embedded::PATTERNS {
            catalog.add(Pattern::parse(file, text)?);
        }
        Ok(catalog)
    }

    /// Adds the patterns of a folder (`*.sql`); one of the same name replaces the one compiled in.
    pub fn add_dir(&mut self, dir: &Path) -> Result<(), PatternError> {
        let read = |source| PatternError::Read { path: dir.display().to_string(), source };
        let mut files = Vec::new();
        for entry in fs::read_dir(dir).map_err(read)? {
            let path = entry.map_err(read)?.path();
            if path.extension().is_some_and(|e| e == "sql") {
                files.push(path);
            }
        }
        files.sort();
        for path in files {
            let text = fs::read_to_string(&path).map_err(|source| PatternError::Read {
                path: path.display().to_string(),
                source,
            })?;
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            self.add(Pattern::parse(&file, &text)?);
        }
        Ok(())
    }

    /// Adds or replaces one.
    pub fn add(&mut self, pattern: Pattern) {
        self.patterns.insert(pattern.name.clone(), pattern);
    }

    /// Gives a parameter another default, in all patterns that have one of that name and of the type of `value`.
    pub fn set_default(&mut self, name: &str, value: &ParameterValue) {
        let all = self.patterns.values_mut().flat_map(|p| &mut p.parameters);
        for parameter in all.filter(|p| p.name == name) {
            if let Some(default) = &mut parameter.default
                && mem::discriminant(default) == mem::discriminant(value)
            {
                *default = value.clone();
            }
        }
    }

    /// The pattern of that name.
    pub fn get(&self, name: &str) -> Option<&Pattern> {
        self.patterns.get(name)
    }

    /// All, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Pattern> {
        self.patterns.values()
    }
}

/// The relations that are compiled in, by name.
///
/// # Panics
/// If an embedded file is broken, which the tests of this crate rule out.
#[allow(clippy::panic)]
pub fn relations() -> &'static [Relation] {
    static RELATIONS: LazyLock<Vec<Relation>> = LazyLock::new(|| {
        embedded::RELATIONS
            .iter()
            .map(|(file, text)| match header(file, text) {
                Ok(h) => Relation {
                    name: h.name,
                    title: h.title,
                    parameters: h.parameters,
                    sql: (*text).to_owned(),
                },
                Err(e) => panic!("{e}"),
            })
            .collect()
    });
    &RELATIONS
}

fn header(file: &str, text: &str) -> Result<Header, PatternError> {
    let mut h = Header::default();
    for (i, line) in text.lines().enumerate() {
        let fail =
            |message: String| PatternError::Header { file: file.into(), line: i + 1, message };
        let Some(comment) = line.strip_prefix("--") else { break };
        let Some((key, value)) = comment.split_once(':') else { continue };
        let value = value.trim();
        match key.trim() {
            "name" => h.name = value.into(),
            "title" => h.title = value.into(),
            "tables" => {
                h.tables = value.split(',').map(|t| t.trim().to_owned()).collect();
            }
            "remedy" => h.remedies.push(value.into()),
            "param" => h.parameters.push(parameter(value).map_err(fail)?),
            _ => {}
        }
    }
    let fail = |message: String| PatternError::Header { file: file.into(), line: 1, message };
    if h.name.is_empty() || file != format!("{}.sql", h.name) {
        return Err(fail(format!(
            "needs a line `-- name: {}`, got {:?}",
            file.trim_end_matches(".sql"),
            h.name
        )));
    }
    if h.title.is_empty() {
        return Err(fail("needs a line `-- title: ...`".into()));
    }
    Ok(h)
}

fn parameter(text: &str) -> Result<Parameter, String> {
    let usage = || format!("expected `NAME TYPE [= DEFAULT] -- WHAT IT IS`, got {text:?}");
    let (declaration, description) = text.split_once("--").ok_or_else(usage)?;
    let (left, default) = match declaration.split_once('=') {
        Some((l, d)) => (l, Some(d.trim())),
        None => (declaration, None),
    };
    let mut words = left.split_whitespace();
    let (Some(name), Some(ty), None) = (words.next(), words.next(), words.next()) else {
        return Err(usage());
    };
    let ty = match ty {
        "float64" => ParameterType::Float64,
        "int64" => ParameterType::Int64,
        "text" => ParameterType::Text,
        other => return Err(format!("type {other:?} is none of float64, int64, text")),
    };
    let wrong = |d: &str| format!("default {d:?} of {name:?} is not of its type");
    let default = match (ty, default) {
        (_, None) => None,
        (ParameterType::Float64, Some(d)) => {
            Some(ParameterValue::Float64(d.parse().map_err(|_| wrong(d))?))
        }
        (ParameterType::Int64, Some(d)) => {
            Some(ParameterValue::Int64(d.parse().map_err(|_| wrong(d))?))
        }
        (ParameterType::Text, Some(d)) => {
            Some(ParameterValue::Text(d.trim_matches('\'').to_owned()))
        }
    };
    Ok(Parameter { name: name.into(), ty, default, description: description.trim().into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "-- name: p\n-- title: T\n-- tables: resources\n\
        -- param: horizon_seconds float64 = 900 -- how far ahead\nSELECT 1";

    #[test]
    fn a_default_is_replaced_where_name_and_type_are_the_same() {
        let mut catalog = PatternCatalog::default();
        catalog.add(Pattern::parse("p.sql", GOOD).unwrap());
        let default = |c: &PatternCatalog| c.get("p").unwrap().parameters[0].default.clone();
        catalog.set_default("horizon_seconds", &ParameterValue::Int64(60));
        catalog.set_default("horizon", &ParameterValue::Float64(60.0));
        assert_eq!(default(&catalog), Some(ParameterValue::Float64(900.0)));
        catalog.set_default("horizon_seconds", &ParameterValue::Float64(60.0));
        assert_eq!(default(&catalog), Some(ParameterValue::Float64(60.0)));
    }

    #[test]
    fn embedded_files_parse_and_name_known_tables() {
        let catalog = PatternCatalog::builtin().unwrap();
        assert!(catalog.get("memory_leak_oom").is_some());
        for p in catalog.iter() {
            for t in &p.tables {
                assert!(crate::catalog().get(t).is_some(), "{}: table {t}", p.name);
            }
        }
        let names: Vec<_> = relations().iter().map(|r| r.name.as_str()).collect();
        for r in ["tapio_check", "tapio_why", "tapio_fixes"] {
            assert!(names.contains(&r), "{r} is missing in {names:?}");
        }
    }

    #[test]
    fn header_is_read() {
        let p = Pattern::parse("p.sql", GOOD).unwrap();
        assert_eq!(p.parameters[0].default, Some(ParameterValue::Float64(900.0)));
        assert_eq!(p.parameters[0].description, "how far ahead");
    }

    #[test]
    fn errors_name_file_line_and_fault() {
        for (text, expected) in [
            ("SELECT 1", "p.sql:1: needs a line `-- name: p`"),
            ("-- name: p\n-- title: T\nSELECT 1", "p.sql:1: needs a line `-- tables"),
            (
                "-- name: p\n-- title: T\n-- tables: a\n-- param: x float = 1 -- d\n",
                "p.sql:4: type \"float\"",
            ),
            (
                "-- name: p\n-- title: T\n-- tables: a\n-- param: x int64 = y -- d\n",
                "p.sql:4: default \"y\"",
            ),
            ("-- name: p\n-- title: T\n-- tables: a\n-- param: x int64 -- d\n", "needs a default"),
        ] {
            let e = Pattern::parse("p.sql", text).unwrap_err().to_string();
            assert!(e.contains(expected), "{e}");
        }
    }

    #[test]
    fn a_user_folder_adds_and_replaces() {
        let mut c = PatternCatalog::default();
        let e = c.add_dir(Path::new("/nonexistent-patterns")).unwrap_err().to_string();
        assert!(e.starts_with("/nonexistent-patterns:"), "{e}");
        c.add(Pattern::parse("p.sql", GOOD).unwrap());
        c.add(Pattern::parse("p.sql", &GOOD.replace("title: T", "title: U")).unwrap());
        assert_eq!(c.get("p").unwrap().title, "U");
    }
}
