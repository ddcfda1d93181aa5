//! The only room that spawns: clean environment, own process group, limits, bounded output, a certain end.
//!
//! Every child runs as `setpriv --pdeathsig KILL [--reuid … --regid … --init-groups] -- argv…`, so that it dies with the
//! daemon and may run as another user. No shell is involved anywhere. [`run()`] hears a child line by line, [`capture()`]
//! takes its whole output, [`run_raw`] is beneath both.
//!
//! What users' definitions name is not to live in the daemon's sandbox ([`Sandbox::None`]): where the daemon is a system
//! service it runs as a transient unit of systemd, under the same limits.
//!
//! A child is over when it has ended *and* its group is gone: leftovers that hold the pipes open get a short grace and
//! are then killed. Only what called `setsid` escapes; under systemd the unit's control group ends that too.

mod capture;
mod error;
mod fate;
mod feed;
mod limits;
mod lines;
mod orphans;
mod pair;
mod program;
mod run;
mod running;
mod spawner;
mod unit;
mod work;

#[cfg(test)]
mod tests;

pub use capture::{Captured, capture};
pub use error::Error;
pub use feed::{Feed, Hunger};
pub use limits::Limits;
pub use lines::{Lines, printable};
pub use orphans::end_orphans;
pub use pair::pair;
pub use program::{Account, Leftovers, Program, Sandbox, Stdin, Stdout, find};
pub use run::{Ended, How, Listener, Sign, Source, Why, run, run_heard, run_raw};
pub(crate) use unit::systemd;
pub use unit::{next, take_over};

/// The longest line that is delivered whole, in bytes; the rest of a longer one is dropped.
pub const MAX_LINE: usize = 1 << 20;

/// How much of standard error is kept in [`Ended::stderr_tail`], in bytes.
pub const MAX_TAIL: usize = 4 << 10;

/// Makes sure that children can be started at all: `setpriv` must be there. From now on neither we nor our children leave
/// a core dump. To be called once at start.
///
/// # Errors
/// [`Error::NoSetpriv`] when the program is not on PATH.
pub fn ready() -> Result<(), Error> {
    if let Err(failure) = no_core_dumps() {
        tracing::warn!("a core dump of the daemon or of restic could hold passwords: {failure}");
    }
    program::setpriv().map(|_| ())
}

/// Our memory and that of restic hold passwords. One byte, not none: beyond that the kernel hands the memory to a program
/// all the same, where one is set to take core dumps (core(5)).
fn no_core_dumps() -> rustix::io::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let least = |limit: Option<u64>| Some(limit.map_or(1, |limit| limit.min(1)));
    let now = getrlimit(Resource::Core);
    setrlimit(Resource::Core, Rlimit { current: least(now.maximum), maximum: least(now.maximum) })
}
