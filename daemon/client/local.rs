//! What is asked of the definition files themselves, without a daemon.

use std::path::{Path, PathBuf};

use super::Context;
use super::failure::Failure;
use crate::config::{Dirs, Environment, Loaded, load};

/// The directories and the machine as the daemon sees them.
pub(super) fn places(context: &Context) -> Result<(Dirs, Environment), Failure> {
    let dirs = Dirs { config: absolute(&context.config)?, modules: absolute(&context.library)? };
    let environment = Environment {
        host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        zone: context.here.zone.clone(),
        state_dir: absolute(&context.state)?,
        cache_dir: absolute(&context.cache)?,
        uid: rustix::process::geteuid().as_raw(),
        cpus: std::thread::available_parallelism().map_or(1, usize::from),
    };
    Ok((dirs, environment))
}

/// All definitions, good and bad.
pub(super) fn definitions(context: &Context) -> Result<Loaded, Failure> {
    let (dirs, environment) = places(context)?;
    Ok(load(&dirs, &environment, None))
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path)
        .map_err(|error| Failure::usage(format!("the directory {}: {error}", path.display())))
}
