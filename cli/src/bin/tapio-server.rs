//! The `tapio-server`.

use std::process::ExitCode;

use clap::Parser;
use tapio_cli::{args::ServerCli, error::CliError, init_logging, server};

/// Planning a relation is mostly small allocations: with this allocator a check against a server took a sixth less.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = ServerCli::parse();
    init_logging(cli.verbose, "info");
    // Kernel programs are loaded, and what only that needs is given up, before any thread is started.
    let prepared = match server::prepare(&cli) {
        Ok(prepared) => prepared,
        Err(e) => return e.report(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(r) => r,
        Err(e) => return CliError::tool(format!("cannot start the runtime: {e}")).report(),
    };
    let result = runtime.block_on(server::run(cli, prepared));
    runtime.shutdown_background();
    result.unwrap_or_else(|e| e.report())
}
