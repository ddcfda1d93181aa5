//! Holdfast, a backup daemon: the map.
//!
//! # Rooms
//!
//! | room | what it is for |
//! |---|---|
//! | `main`, [`client`] | the programs `holdfastd` and `holdfast` |
//! | [`service`] | builds the rooms, tells systemd, waits for signals, drains |
//! | [`bus`] | the D-Bus face: translations of a few lines, no logic |
//! | [`control`] | what may be asked of the daemon, one function per verb |
//! | [`config`] | TOML to valid definitions, and edits back into TOML |
//! | [`schedule`] | planner and tick: which slots are due |
//! | [`job`] | the procedures (backup, restore, maintenance), each a straight line of phases |
//! | [`queue`] | locks per repository and instance, the global cap |
//! | [`state`] | SQLite: jobs, outcomes, slots, sets; beside it undo steps, identities |
//! | [`restic`] | one file per subcommand of restic |
//! | [`service_control`] | services of others: state, stop, start; one file per manager |
//! | [`dump`] | data sources, one file per engine: dump, verify, restore, ready |
//! | [`target`] | where commands run and paths lie: users, install dirs, volumes, the tree of includes |
//! | [`process`] | the only room that spawns |
//! | [`archive`] | archives that come from outside, unpacked so that nothing leads out |
//! | [`calendar`] | schedule expressions to instants: pure |
//! | [`definition`] | valid definitions as plain data |
//!
//! # Arrows
//!
//! Imports point downwards only: `main, client -> service -> bus -> control -> config, schedule, job -> queue, state,
//! restic, dump, service_control -> target -> process`; `job` and `dump` also use `archive`; `calendar` and `definition` lie at the
//! bottom and may be used by all. `tests/arrows.rs` holds this.
//!
//! # One backup
//!
//! The tick in `schedule` finds a slot due and stores that it is decided; `control` starts a job; `job::backup` takes the
//! instance's lock, resolves the `target`, stops what `service_control` is to stop, runs `dump_state`, takes the dumps (staged, or
//! streamed into a `restic` per repository), lays the tree of links, calls `restic backup` once per
//! repository, cleans up and applies retention. Each step is written to `state` and seen on the `bus`.

pub mod archive;
pub mod bus;
pub mod calendar;
pub mod client;
pub mod config;
pub mod control;
pub mod definition;
pub mod dump;
pub mod job;
pub mod process;
pub mod queue;
pub mod restic;
pub mod schedule;
pub mod service;
pub mod service_control;
pub mod state;
pub mod target;
