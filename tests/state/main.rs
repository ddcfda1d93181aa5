//! State, queue and retention against real processes, disks and restic.
//!
//! Needs `restic`, `strace`, `flock` and `unshare` on PATH. `HOLDFAST_SOAK=1` runs the kills a thousand times.

#![expect(clippy::disallowed_methods, reason = "these tests are the parents of the processes that they kill")]

#[cfg(test)]
mod crash;
#[cfg(test)]
mod damage;
#[cfg(test)]
mod disks;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod modes;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod records;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod victim;
