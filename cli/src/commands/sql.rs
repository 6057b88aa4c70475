//! `tapio sql`: any query, in any form.

use std::{
    io::{IsTerminal, Read, Write},
    process::ExitCode,
};

use arrow::{array::RecordBatch, datatypes::SchemaRef, ipc::writer::StreamWriter};
use parquet::arrow::ArrowWriter;

use super::{print_bytes, print_value};
use crate::{
    Globals,
    args::{OutputForm, SqlArgs},
    error::CliError,
    render::table,
    source::{Freshness, Source},
};

/// Runs the command.
pub async fn run(args: SqlArgs, globals: &Globals) -> Result<ExitCode, CliError> {
    let form = globals.args.output;
    let binary = matches!(form, OutputForm::Arrow | OutputForm::Parquet);
    if binary && std::io::stdout().is_terminal() {
        return Err(CliError::tool(
            "this form is binary and stdout is a terminal; redirect it, for example > rows.parquet",
        ));
    }
    let statement = match args.query {
        Some(q) if q != "-" => Some(q),
        _ if std::io::stdin().is_terminal() => None,
        _ => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(|e| {
                CliError::tool(format!("cannot read the statement from stdin: {e}"))
            })?;
            Some(text)
        }
    };
    if statement.as_ref().is_some_and(|s| s.trim().is_empty()) {
        return Err(CliError::tool("there is no statement: give one as argument or on stdin"));
    }
    let source = Source::open(globals, Freshness::Any).await?;
    let Some(statement) = statement else { return prompt(&source, form).await };
    let (schema, batches) = source.query(statement.trim(), source.as_of()).await?;
    print(&schema, &batches, form)
}

/// A simple prompt: statements end with `;`, an error does not end the session.
async fn prompt(source: &Source, form: OutputForm) -> Result<ExitCode, CliError> {
    eprintln!("{}. Statements end with `;`, Ctrl-D ends the session.", source.describe());
    let mut statement = String::new();
    loop {
        eprint!("{}", if statement.is_empty() { "tapio> " } else { "    -> " });
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        let read = std::io::stdin()
            .read_line(&mut line)
            .map_err(|e| CliError::tool(format!("cannot read from the terminal: {e}")))?;
        if read == 0 {
            eprintln!();
            return Ok(ExitCode::SUCCESS);
        }
        statement.push_str(&line);
        let complete = statement.trim_end();
        if let Some(sql) = complete.strip_suffix(';') {
            if !sql.trim().is_empty() {
                match source.query(sql.trim(), source.as_of()).await {
                    Ok((schema, batches)) => {
                        print(&schema, &batches, form)?;
                    }
                    Err(e) => eprintln!("error: {}", e.message),
                }
            }
            statement.clear();
        } else if complete.is_empty() {
            statement.clear();
        }
    }
}

fn print(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    form: OutputForm,
) -> Result<ExitCode, CliError> {
    match form {
        OutputForm::Human => print_bytes(table::human(schema, batches).as_bytes()),
        OutputForm::Csv => print_bytes(table::csv(schema, batches).as_bytes()),
        OutputForm::Json | OutputForm::Yaml => print_value(&table::json(schema, batches), form),
        OutputForm::Arrow => print_bytes(&arrow_stream(schema, batches)?),
        OutputForm::Parquet => print_bytes(&parquet_file(schema, batches)?),
    }
}

fn arrow_stream(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, CliError> {
    let fail = |e: arrow::error::ArrowError| CliError::tool(format!("cannot encode as Arrow: {e}"));
    let mut writer = StreamWriter::try_new(Vec::new(), schema).map_err(fail)?;
    for b in batches {
        writer.write(b).map_err(fail)?;
    }
    writer.into_inner().map_err(fail)
}

fn parquet_file(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, CliError> {
    let fail =
        |e: parquet::errors::ParquetError| CliError::tool(format!("cannot encode as Parquet: {e}"));
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), None).map_err(fail)?;
    for b in batches {
        writer.write(b).map_err(fail)?;
    }
    writer.into_inner().map_err(fail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::ipc::reader::StreamReader;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use std::sync::Arc;

    #[test]
    fn binary_forms_read_back() {
        let b =
            RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)])
                .unwrap();
        let bytes = arrow_stream(&b.schema(), std::slice::from_ref(&b)).unwrap();
        let back: Vec<_> =
            StreamReader::try_new(&bytes[..], None).unwrap().map(Result::unwrap).collect();
        assert_eq!(back, std::slice::from_ref(&b));
        let bytes = parquet_file(&b.schema(), std::slice::from_ref(&b)).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap();
        assert_eq!(reader.build().unwrap().next().unwrap().unwrap().num_rows(), 2);
        assert!(!parquet_file(&b.schema(), &[]).unwrap().is_empty());
    }
}
