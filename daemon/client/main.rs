//! holdfast.

use std::process::ExitCode;

use holdfast::client::redis_key;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    redis_key::called_as(&arguments).unwrap_or(ExitCode::from(2))
}
