//! `?` placeholders, which JDBC and ODBC users write: DataFusion knows `$1` only.

use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Parses a statement with `?` placeholders, numbering them from left to right; `None` if there are none (or `$n`
/// stands beside them, so that their numbers are not ours to give). Places in errors stay those of the text as given.
pub(super) fn numbered(
    sql: &str,
    options: &ConfigOptions,
) -> Result<Option<Statement>, DataFusionError> {
    if !sql.contains('?') {
        return Ok(None);
    }
    let dialect = GenericDialect {};
    let Ok(mut tokens) = Tokenizer::new(&dialect, sql).tokenize_with_location() else {
        // The usual path words the error.
        return Ok(None);
    };
    let mut count = 0;
    for token in &mut tokens {
        match &token.token {
            Token::Question => {}
            Token::Placeholder(name) if name == "?" => {}
            Token::Placeholder(_) => return Ok(None),
            _ => continue,
        }
        count += 1;
        token.token = Token::Placeholder(format!("${count}"));
    }
    if count == 0 {
        return Ok(None);
    }
    let parsed = Parser::new(&dialect)
        .with_recursion_limit(options.sql_parser.recursion_limit.get())
        .with_tokens_with_locations(tokens)
        .parse_statements()
        .map_err(|e| DataFusionError::SQL(Box::new(e), None))?;
    match <[_; 1]>::try_from(parsed) {
        Ok([statement]) => Ok(Some(Statement::Statement(Box::new(statement)))),
        Err(all) => {
            Err(DataFusionError::Plan(format!("one statement at a time, {} were given", all.len())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn question_marks_are_numbered_but_not_inside_text() {
        let read = |sql: &str| {
            numbered(sql, &ConfigOptions::default()).unwrap().map(|statement| statement.to_string())
        };
        assert_eq!(
            read("select a from t where a > ? and b = '?' and c < ?").unwrap(),
            "SELECT a FROM t WHERE a > $1 AND b = '?' AND c < $2"
        );
        assert_eq!(read("select '?'"), None);
        assert_eq!(read("select $1, ?"), None);
        assert!(numbered("select ?; select ?", &ConfigOptions::default()).is_err());
        assert!(numbered("select ? frm", &ConfigOptions::default()).is_ok());
        assert!(numbered("select ? from )", &ConfigOptions::default()).is_err());
    }
}
