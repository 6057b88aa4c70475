//! `tapio schema`: the published JSON Schemas.

use std::process::ExitCode;

use super::print_bytes;
use crate::{error::CliError, schemas::SCHEMAS};

/// Prints a schema, or the names.
pub fn run(name: Option<&str>) -> Result<ExitCode, CliError> {
    let names: Vec<_> = SCHEMAS.iter().map(|(n, _)| *n).collect();
    let Some(name) = name else { return print_bytes(format!("{}\n", names.join("\n")).as_bytes()) };
    match SCHEMAS.iter().find(|(n, _)| *n == name) {
        Some((_, text)) => print_bytes(text.as_bytes()),
        None => Err(CliError::tool(format!("no schema {name:?}; there are {}", names.join(", ")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemas_are_json_with_an_id_and_a_title() {
        for (name, text) in SCHEMAS {
            let v: serde_json::Value = serde_json::from_str(text).unwrap();
            assert!(v["title"].is_string() && v["$schema"].is_string(), "{name}");
        }
        assert!(run(Some("chek")).unwrap_err().message.contains("there are check"));
    }
}
