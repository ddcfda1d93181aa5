//! Definitions in TOML: read and checked (`load`), explained (`explain`), described for editors (`schema`), changed (`edit`).
//!
//! Text becomes raw tables (`raw`, `value`, `parse`), those become valid definitions (`valid`), purely and with every finding
//! noted. Only `files` and `edit` touch the file system.

mod diagnostic;
pub mod edit;
mod explain;
mod files;
mod load;
mod parse;
mod raw;
mod schema;
mod stacks;
mod valid;
mod value;
mod written;

use std::path::PathBuf;

use jiff::tz::TimeZone;

pub use diagnostic::{Diagnostic, Place, Severity};
pub use explain::{Row, explain};
pub use load::{Loaded, load};
pub use schema::schema;
pub use stacks::{directory as stacks_directory, toml as stack_toml};
pub use value::check_read_data;

/// Where definitions lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// `holdfast.toml`, `conf.d/`, `secrets/`; absolute.
    pub config: PathBuf,
    /// The module library; absolute.
    pub modules: PathBuf,
}

impl Dirs {
    /// The file that is read first.
    pub fn main_file(&self) -> PathBuf {
        self.config.join("holdfast.toml")
    }

    /// The directory of further files.
    pub fn fragments(&self) -> PathBuf {
        self.config.join("conf.d")
    }
}

/// What definitions depend on beside their text. Asked once, at start, by whoever loads.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The machine's host name: the default of `daemon.host`.
    pub host: String,
    /// The machine's zone: the default of `daemon.timezone`.
    pub zone: TimeZone,
    /// Where the daemon keeps its state; absolute.
    pub state_dir: PathBuf,
    /// Where restic keeps its caches; absolute.
    pub cache_dir: PathBuf,
    /// The daemon's user: with root the only one whose files are trusted.
    pub uid: u32,
    /// The default of `daemon.max_parallel`.
    pub cpus: usize,
}

/// Reads all definitions and says what is wrong; true when there is no error (warnings are none).
pub fn check(dirs: &Dirs, env: &Environment) -> (Vec<Diagnostic>, bool) {
    let loaded = load(dirs, env, None);
    let good = loaded.is_good();
    (loaded.diagnostics, good)
}
