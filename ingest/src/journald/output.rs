//! A whole output of journalctl at once.

use tapio_sql::{BatchError, TableBatch};

use super::{
    JournalOptions,
    entry::Entry,
    lines::Lines,
    row::{self, Reader},
};
use crate::hot::table_def;

/// The rows of `events` that an output of `journalctl -o json` makes, as the collector would make them with its default
/// bounds, and how many of its lines are no entries or too long. Empty lines count for nothing; no limit on the number
/// of lines per unit and no `node.boot`. A pure function: `observed_at` is `now_us`, or the row's `ts` if that is later.
///
/// ```
/// let line = br#"{"__CURSOR":"s=a;i=1;b=b;m=1;t=1;x=1","__REALTIME_TIMESTAMP":"5","MESSAGE":"hello"}"#;
/// let (rows, rejected) = tapio_ingest::journald::events_of(line, "node-1", 7)?;
/// assert_eq!((rows.num_rows(), rejected), (1, 0));
/// # Ok::<(), tapio_sql::BatchError>(())
/// ```
///
/// # Errors
/// [`BatchError`] if the rows do not fit the table: a bug.
pub fn events_of(
    output: &[u8],
    node: &str,
    now_us: i64,
) -> Result<(TableBatch, usize), BatchError> {
    let options = JournalOptions::default();
    let mut reader = Reader::default();
    let mut lines = Lines::new(options.line_bytes);
    let (mut rows, mut rejected) = (Vec::new(), 0);
    let mut take = |line: &[u8]| match Entry::parse(line, options.message_bytes) {
        Ok(entry) => rows.push(reader.row(&entry)),
        Err(_) => rejected += 1,
    };
    lines.push(output, &mut take);
    if output.last().is_some_and(|b| *b != b'\n') {
        lines.push(b"\n", &mut take);
    }
    let def = table_def("events").ok_or_else(|| BatchError::Column {
        table: "events".into(),
        position: 0,
        expected: "a table".into(),
        got: String::new(),
    })?;
    let too_long = usize::try_from(lines.too_long).unwrap_or(usize::MAX);
    Ok((row::batch(&def, &rows, node, now_us)?, rejected + too_long))
}
