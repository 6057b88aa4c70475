//! What is wrong with a user's SQL, with its place, as text, as gRPC status and back.

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use tonic::{Code, Status};

const LINE: &str = "tapio-sql-line";
const COLUMN: &str = "tapio-sql-column";
const HINT: &str = "tapio-sql-hint";

/// A mistake in a statement: what, where, and what was perhaps meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SqlProblem {
    /// The message, without the place.
    pub message: String,
    /// Line in the statement, from 1; `None` if the engine does not tell.
    pub line: Option<u64>,
    /// Column in that line, in characters from 1; `None` if the engine does not tell.
    pub column: Option<u64>,
    /// What to do, if there is something to say.
    pub hint: Option<String>,
}

impl std::fmt::Display for SqlProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, " at Line: {line}, Column: {column}")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

impl SqlProblem {
    /// Reads message and place out of an error of DataFusion, wrapped as it may be. The place of names is known only
    /// if the statement was planned with `datafusion.sql_parser.collect_spans`.
    #[must_use]
    pub fn from_error(error: &DataFusionError) -> Self {
        let error = error.iter().next().unwrap_or(error);
        let message = match error.find_root() {
            DataFusionError::SQL(parser, _) => parser.to_string(),
            root => root.message().into_owned(),
        };
        let message = message.split(DataFusionError::BACK_TRACE_SEP).next().unwrap_or_default();
        let message = message.strip_prefix("sql parser error: ").unwrap_or(message);
        let mut problem = Self::from_text(message);
        if let Some(diagnostic) = error.diagnostic() {
            if let (None, Some(span)) = (problem.line, diagnostic.span) {
                problem.message.truncate(problem.message.trim_end_matches('.').len());
                problem.line = Some(span.start.line);
                problem.column = Some(span.start.column);
            }
            let mut advice = diagnostic.helps.iter().map(|h| h.message.clone()).collect::<Vec<_>>();
            advice.extend(diagnostic.notes.iter().map(|n| n.message.clone()));
            if !advice.is_empty() {
                problem.hint = Some(advice.join("; "));
            }
        }
        problem
    }

    /// Splits the parser's own `… at Line: 1, Column: 8` off a message.
    fn from_text(text: &str) -> Self {
        let place = text.rfind(" at Line: ").and_then(|at| {
            let (line, column) = text[at + " at Line: ".len()..].split_once(", Column: ")?;
            Some((at, line.parse().ok()?, column.trim().parse().ok()?))
        });
        match place {
            Some((at, line, column)) => Self {
                message: text[..at].to_owned(),
                line: Some(line),
                column: Some(column),
                hint: None,
            },
            None => Self { message: text.to_owned(), ..Self::default() },
        }
    }

    /// A problem without a place.
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()), ..Self::default() }
    }

    /// Names a near one among `known`, if the problem is a table or function that is not there.
    #[must_use]
    pub fn with_near_names(mut self, known: impl IntoIterator<Item = String>) -> Self {
        if self.hint.is_some() || !self.message.contains("not found") {
            return self;
        }
        let Some(wanted) = self.message.split('\'').nth(1) else { return self };
        let wanted = wanted.rsplit('.').next().unwrap_or(wanted).to_lowercase();
        let near = known
            .into_iter()
            .map(|name| (strsim::jaro_winkler(&wanted, &name.to_lowercase()), name))
            .filter(|(likeness, _)| *likeness >= 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0).then_with(|| b.1.cmp(&a.1)));
        self.hint = near.map(|(_, name)| format!("did you mean {name}?"));
        self
    }

    /// The status that carries it: the text for any client, the parts as metadata for ours.
    pub(super) fn to_status(&self) -> Status {
        let mut status = Status::invalid_argument(self.to_string());
        let headers = status.metadata_mut();
        if let (Some(line), Some(column)) = (self.line, self.column) {
            headers.insert(LINE, line.into());
            headers.insert(COLUMN, column.into());
        }
        // Metadata is ASCII; a hint with other characters stays in the text.
        if let Some(value) = self.hint.as_ref().and_then(|hint| hint.parse().ok()) {
            headers.insert(HINT, value);
        }
        status
    }

    /// Reads what [`Self::to_status`] wrote; any other status keeps its text as the message.
    pub(super) fn from_status(status: &Status) -> Self {
        let header = |name| status.metadata().get(name).and_then(|v| v.to_str().ok());
        let (text, hint) = match status.message().rsplit_once("\nhint: ") {
            Some((text, hint)) => (text, Some(hint.to_owned())),
            None => (status.message(), None),
        };
        let mut problem = Self::from_text(text);
        problem.hint = header(HINT).map(str::to_owned).or(hint);
        if let (Some(line), Some(column)) = (header(LINE), header(COLUMN)) {
            problem.line = line.parse().ok().or(problem.line);
            problem.column = column.parse().ok().or(problem.column);
        }
        problem
    }
}

/// The gRPC code of an error: what the user wrote, what ran out, what we lack, and all else.
pub(super) fn code_of(error: &DataFusionError) -> Code {
    match error.iter().next().unwrap_or(error).find_root() {
        DataFusionError::SQL(..)
        | DataFusionError::Plan(_)
        | DataFusionError::SchemaError(..)
        | DataFusionError::Configuration(_)
        // DataFusion uses it for malformed input that shows while the query runs.
        | DataFusionError::Execution(_) => Code::InvalidArgument,
        DataFusionError::ResourcesExhausted(_) => Code::ResourceExhausted,
        DataFusionError::NotImplemented(_) => Code::Unimplemented,
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            ArrowError::DivideByZero
            | ArrowError::ArithmeticOverflow(_)
            | ArrowError::CastError(_)
            | ArrowError::ParseError(_)
            | ArrowError::ComputeError(_)
            | ArrowError::InvalidArgumentError(_) => Code::InvalidArgument,
            ArrowError::NotYetImplemented(_) => Code::Unimplemented,
            ArrowError::MemoryError(_) => Code::ResourceExhausted,
            _ => Code::Internal,
        },
        _ => Code::Internal,
    }
}

/// The status of an error for which the engine has no answer of its own.
pub(super) fn status_of(error: &DataFusionError, tables: impl FnOnce() -> Vec<String>) -> Status {
    match code_of(error) {
        Code::InvalidArgument => {
            let problem = SqlProblem::from_error(error);
            let known = if problem.message.contains("not found") { tables() } else { Vec::new() };
            problem.with_near_names(known).to_status()
        }
        Code::ResourceExhausted => Status::resource_exhausted(format!(
            "{}\nhint: select fewer rows or columns, a shorter time range, or raise limits.memory",
            error.strip_backtrace()
        )),
        code => Status::new(code, error.strip_backtrace()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_survive_the_wire() {
        for problem in [
            SqlProblem { message: "a".into(), line: Some(3), column: Some(14), hint: None },
            SqlProblem {
                message: "a".into(),
                line: Some(1),
                column: Some(2),
                hint: Some("é".into()),
            },
            SqlProblem::new("no place", "do that"),
        ] {
            assert_eq!(SqlProblem::from_status(&problem.to_status()), problem);
        }
        let plain = Status::invalid_argument("Expected: x at Line: 2, Column: 9");
        let read = SqlProblem::from_status(&plain);
        assert_eq!(
            (read.message.as_str(), read.line, read.column),
            ("Expected: x", Some(2), Some(9))
        );
    }

    #[test]
    fn near_names_are_named() {
        let problem = SqlProblem {
            message: "table 'tapio.public.resorces' not found".into(),
            ..SqlProblem::default()
        };
        let known = || ["events", "resources"].map(String::from);
        assert_eq!(
            problem.clone().with_near_names(known()).hint.as_deref(),
            Some("did you mean resources?")
        );
        let far = SqlProblem { message: "table 'zzz' not found".into(), ..problem };
        assert_eq!(far.with_near_names(known()).hint, None);
    }

    #[test]
    fn codes_follow_the_cause_through_wrappers() {
        let wrapped =
            |e: DataFusionError| DataFusionError::Shared(std::sync::Arc::new(e.context("x")));
        let cases = [
            (DataFusionError::Plan("p".into()), Code::InvalidArgument),
            (DataFusionError::ResourcesExhausted("r".into()), Code::ResourceExhausted),
            (DataFusionError::NotImplemented("n".into()), Code::Unimplemented),
            (DataFusionError::Internal("i".into()), Code::Internal),
            (DataFusionError::from(ArrowError::DivideByZero), Code::InvalidArgument),
            (DataFusionError::from(ArrowError::IpcError("i".into())), Code::Internal),
        ];
        for (error, code) in cases {
            assert_eq!(code_of(&wrapped(error)), code);
        }
    }
}
