//! Errors of queries, split by what the caller does next.

use datafusion::{
    arrow::error::ArrowError,
    common::{DataFusionError, Diagnostic, SchemaError},
    sql::sqlparser::parser::ParserError,
};
use tapio_store::StoreError;

/// Place in the text of a statement, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column, in characters.
    pub column: u64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The statement is wrong: show it to the user.
    #[error("{}{message}{}", position.map(|p| format!("line {}, column {}: ", p.line, p.column)).unwrap_or_default(), hint.as_ref().map(|h| format!("; {h}")).unwrap_or_default())]
    Sql {
        /// What is wrong.
        message: String,
        /// Where, if known.
        position: Option<Position>,
        /// What to do, such as a name that was perhaps meant.
        hint: Option<String>,
    },
    /// A pattern file is wrong: show it to whoever wrote it.
    #[error("pattern {file}: {message}")]
    Pattern {
        /// The file.
        file: String,
        /// What is wrong, naming the column.
        message: String,
    },
    /// The query took more memory or time than it may: narrow it or raise the limit.
    #[error("{message}; {hint}")]
    Resources {
        /// What ran out.
        message: String,
        /// What to do.
        hint: String,
    },
    /// The store does not answer: try again later.
    #[error("the store cannot be read: {0}")]
    Storage(String),
    /// A bug of Tapio.
    #[error("internal error, please report it: {0}")]
    Internal(String),
}

impl From<StoreError> for QueryError {
    fn from(e: StoreError) -> Self {
        Self::Storage(e.to_string())
    }
}

/// Names that a wrong one is compared with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    pub(crate) tables: Vec<String>,
    pub(crate) table_functions: Vec<String>,
    pub(crate) functions: Vec<String>,
}

impl QueryError {
    /// The error of a statement: what DataFusion says, told from what was asked.
    pub(crate) fn of(error: &DataFusionError, sql: &str, names: &Names) -> Self {
        let mut diagnostic: Option<&Diagnostic> = None;
        let mut e = error;
        loop {
            e = match e {
                DataFusionError::Context(_, inner) => inner,
                DataFusionError::Diagnostic(d, inner) => {
                    diagnostic = Some(d);
                    inner
                }
                DataFusionError::Shared(inner) => inner,
                DataFusionError::Collection(all) if !all.is_empty() => &all[0],
                DataFusionError::ArrowError(a, _) => match &**a {
                    ArrowError::ExternalError(inner) => {
                        match inner.downcast_ref::<DataFusionError>() {
                            Some(inner) => inner,
                            None => break,
                        }
                    }
                    _ => break,
                },
                DataFusionError::External(inner) => {
                    if let Some(q) = inner.downcast_ref::<Self>() {
                        return q.again();
                    }
                    if let Some(s) = inner.downcast_ref::<StoreError>() {
                        return Self::Storage(s.to_string());
                    }
                    match inner.downcast_ref::<DataFusionError>() {
                        Some(inner) => inner,
                        None => break,
                    }
                }
                _ => break,
            };
        }
        let position = diagnostic
            .and_then(|d| d.span)
            .map(|s| Position { line: s.start.line, column: s.start.column });
        let text = e.strip_backtrace();
        let text = text.trim();
        let sql_error = |message: &str, position, hint| Self::Sql {
            message: message.to_owned(),
            position,
            hint,
        };
        match e {
            DataFusionError::SQL(p, _) => {
                let message = match &**p {
                    ParserError::ParserError(m) | ParserError::TokenizerError(m) => m.clone(),
                    ParserError::RecursionLimitExceeded => "nested too deeply".into(),
                };
                let (message, found) = split_position(&message);
                let hint = "check the spelling near this place";
                sql_error(&message, found.or(position), Some(hint.into()))
            }
            DataFusionError::SchemaError(s, _) => {
                let hint = match &**s {
                    SchemaError::FieldNotFound { field, valid_fields } => {
                        let valid: Vec<String> =
                            valid_fields.iter().map(|f| f.name.clone()).collect();
                        near(&field.name, &valid)
                            .or_else(|| Some(format!("columns here are {}", list(&valid))))
                    }
                    _ => None,
                };
                let message = text.trim_start_matches("Schema error: ");
                let message = message.split(['\n']).next().unwrap_or(message);
                let message = message.split(". Did you mean").next().unwrap_or(message);
                let place = match &**s {
                    SchemaError::FieldNotFound { field, .. } => find(sql, &field.name),
                    _ => None,
                };
                sql_error(message.trim_end_matches('.'), position.or(place), hint)
            }
            DataFusionError::Plan(_) | DataFusionError::Configuration(_) => {
                let message = text.trim_start_matches("Error during planning: ");
                let message = message.trim_start_matches("Invalid or Unsupported Configuration: ");
                Self::planning(message, position, sql, names)
            }
            DataFusionError::NotImplemented(_) => sql_error(
                text.trim_start_matches("This feature is not implemented: "),
                position,
                Some("this is not supported".into()),
            ),
            DataFusionError::Execution(m) => sql_error(m, position, None),
            DataFusionError::ArrowError(a, _) => sql_error(&a.to_string(), position, None),
            DataFusionError::ResourcesExhausted(m) => Self::Resources {
                message: m.lines().next().unwrap_or(m).to_owned(),
                hint: "narrow the query by time or subject, or raise limits.memory".into(),
            },
            DataFusionError::ObjectStore(_)
            | DataFusionError::IoError(_)
            | DataFusionError::ParquetError(_) => Self::Storage(text.to_owned()),
            DataFusionError::External(inner) => Self::Storage(inner.to_string()),
            _ => Self::Internal(text.to_owned()),
        }
    }

    fn planning(message: &str, position: Option<Position>, sql: &str, names: &Names) -> Self {
        let quoted = || message.split('\'').nth(1).map(str::to_owned);
        let mut hint = None;
        let mut name = None;
        let mut message = message.to_owned();
        if message.starts_with("table function '") {
            name = quoted();
            hint = name.as_deref().and_then(|n| near(n, &names.table_functions));
            hint = hint.or_else(|| Some(format!("there are {}", list(&names.table_functions))));
        } else if message.starts_with("table '") {
            name = quoted().map(|n| n.rsplit('.').next().unwrap_or(&n).to_owned());
            hint = name.as_deref().and_then(|n| {
                let exact = names.table_functions.iter().any(|f| f == n);
                if exact {
                    return Some(format!("{n} is a table function: write {n}()"));
                }
                near(n, &names.tables)
            });
            hint = hint.or_else(|| Some(format!("tables are {}", list(&names.tables))));
            if let Some(n) = &name {
                message = format!("table '{n}' not found");
            }
        } else if message.starts_with("Invalid function '") {
            name = quoted();
            hint = name.as_deref().and_then(|n| near(n, &names.functions));
            message = message.lines().next().unwrap_or_default().trim_end_matches('.').to_owned();
        }
        let position = position.or_else(|| name.as_deref().and_then(|n| find(sql, n)));
        Self::Sql { message, position, hint }
    }

    /// The same error, for another receiver.
    fn again(&self) -> Self {
        match self {
            Self::Sql { message, position, hint } => {
                Self::Sql { message: message.clone(), position: *position, hint: hint.clone() }
            }
            Self::Pattern { file, message } => {
                Self::Pattern { file: file.clone(), message: message.clone() }
            }
            Self::Resources { message, hint } => {
                Self::Resources { message: message.clone(), hint: hint.clone() }
            }
            Self::Storage(m) => Self::Storage(m.clone()),
            Self::Internal(m) => Self::Internal(m.clone()),
        }
    }
}

/// Cuts the parser's " at Line: 1, Column: 8" off.
fn split_position(message: &str) -> (String, Option<Position>) {
    let Some((text, place)) = message.rsplit_once(" at Line: ") else {
        return (message.to_owned(), None);
    };
    let mut numbers = place.split(|c: char| !c.is_ascii_digit()).filter(|p| !p.is_empty());
    let number = |n: Option<&str>| n.and_then(|n| n.parse().ok());
    match (number(numbers.next()), number(numbers.next())) {
        (Some(line), Some(column)) => (text.to_owned(), Some(Position { line, column })),
        _ => (message.to_owned(), None),
    }
}

/// Where a name stands in the statement, as a whole word.
fn find(sql: &str, name: &str) -> Option<Position> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    for (i, line) in sql.lines().enumerate() {
        let lower = line.to_ascii_lowercase();
        let mut from = 0;
        while let Some(at) = lower[from..].find(&name.to_ascii_lowercase()) {
            let at = from + at;
            let before = lower[..at].chars().next_back();
            let after = lower[at + name.len()..].chars().next();
            if !before.is_some_and(word) && !after.is_some_and(word) {
                let column = lower[..at].chars().count() as u64 + 1;
                return Some(Position { line: i as u64 + 1, column });
            }
            from = at + name.len().max(1);
        }
    }
    None
}

fn near(name: &str, known: &[String]) -> Option<String> {
    let name = name.to_lowercase();
    known
        .iter()
        .map(|k| (strsim::jaro_winkler(&name, k), k))
        .filter(|(s, _)| *s >= 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, k)| format!("did you mean {k:?}?"))
}

fn list(names: &[String]) -> String {
    const MOST: usize = 30;
    let rest = names.len().saturating_sub(MOST);
    let shown = names.iter().take(MOST).cloned().collect::<Vec<_>>().join(", ");
    if rest > 0 { format!("{shown} and {rest} more") } else { shown }
}
