//! holdfastd: arguments, logging, run, exit code; nothing else.

use std::process::ExitCode;

use clap::Parser;
use holdfast::service;

fn main() -> ExitCode {
    service::main(service::Arguments::parse())
}
