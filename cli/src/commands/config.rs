//! `tapio config init|show|validate`.

use std::{io::Write, path::Path, process::ExitCode};

use super::{print_bytes, print_value};
use crate::{
    args::{ConfigCommand, GlobalArgs, OutputForm},
    config::Config,
    error::CliError,
};

/// Runs the command.
pub fn run(command: ConfigCommand, global: &GlobalArgs) -> Result<ExitCode, CliError> {
    match command {
        ConfigCommand::Init { path, force } => init(&path, force),
        ConfigCommand::Show => {
            let config = Config::load(global.config.as_deref())?;
            match global.output {
                OutputForm::Human | OutputForm::Yaml => {
                    let from = match &config.file {
                        Some(f) => format!("# from {}\n", f.display()),
                        None => "# no file: defaults\n".into(),
                    };
                    print_bytes(format!("{from}{}", config.to_yaml(true)).as_bytes())
                }
                OutputForm::Json => print_value(&config.to_json(), OutputForm::Json),
                _ => Err(CliError::tool("`tapio config show` has -o human, json and yaml")),
            }
        }
        ConfigCommand::Validate { path } => {
            let path = path.or_else(|| global.config.clone());
            let config = match &path {
                Some(path) => Config::read(path)?,
                None => Config::load(None)?,
            };
            let what = config
                .file
                .as_ref()
                .map_or_else(|| "no file, defaults only".into(), |f| f.display().to_string());
            print_bytes(format!("{what}: ok\n").as_bytes())
        }
    }
}

fn init(path: &Path, force: bool) -> Result<ExitCode, CliError> {
    let fail = |e: std::io::Error| {
        if e.kind() == std::io::ErrorKind::AlreadyExists {
            CliError::tool(format!("{} exists already; --force overwrites it", path.display()))
        } else {
            CliError::tool(format!("cannot write {}: {e}", path.display()))
        }
    };
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = options.open(path).map_err(fail)?;
    file.write_all(Config::default().to_yaml(false).as_bytes()).map_err(fail)?;
    eprintln!("wrote {}", path.display());
    Ok(ExitCode::SUCCESS)
}
