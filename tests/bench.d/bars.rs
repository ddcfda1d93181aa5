//! The bars of the design, measured: `tests/bench` builds and runs this.
//!
//! Everything runs on a private bus in a temporary directory, against the real restic and the optimised programs. Each
//! comparison is made in one run, both sides in turn, and told as a ratio or a difference of medians: the machine may be
//! busy with other things, which moves both sides alike.
//!
//! Called under the name `restic` this program is the stopwatch that the daemon calls in restic's place.
#![expect(clippy::disallowed_methods, reason = "a bench starts real programs itself")]
#![expect(clippy::print_stdout, reason = "its table is its result")]

mod idle;
mod lab;
mod latency;
mod many;
mod numbers;
mod overhead;
mod restore;
mod shared;
mod size;
mod stopwatch;
mod stream;
mod table;

use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};

use self::table::Table;

/// What can be asked for, in the order in which it is measured.
const SECTIONS: [&str; 8] = ["size", "overhead", "shared", "restore", "stream", "latency", "idle", "many"];

fn main() -> ExitCode {
    if let Some(code) = stopwatch::called() {
        return code;
    }
    // Cargo says `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match run(&wanted) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("bench: {failure:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &[String]) -> Result<()> {
    for word in wanted {
        ensure!(
            SECTIONS.contains(&word.as_str()),
            "there is no section {word}; there are {}",
            SECTIONS.join(", ")
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    println!("{}\n", machine()?);
    let mut table = Table::default();
    for section in SECTIONS {
        if wanted.is_empty() || wanted.iter().any(|word| word == section) {
            eprintln!("bench: {section} …");
            let measured = match section {
                "size" => size::measure(&mut table),
                "overhead" => runtime.block_on(overhead::measure(&mut table)),
                "shared" => runtime.block_on(shared::measure(&mut table)),
                "restore" => runtime.block_on(restore::measure(&mut table)),
                "stream" => runtime.block_on(stream::measure(&mut table)),
                "latency" => runtime.block_on(latency::measure(&mut table)),
                "idle" => runtime.block_on(idle::measure(&mut table)),
                _ => runtime.block_on(many::measure(&mut table)),
            };
            measured.with_context(|| format!("measuring {section}"))?;
        }
    }
    println!("{table}");
    println!("Load at the end: {}.", numbers::load()?);
    Ok(())
}

/// `2 CPUs (…), load 1.05 0.80 0.60, restic 0.14.0 …`
fn machine() -> Result<String> {
    let cpus = std::thread::available_parallelism()?;
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown", |(_, name)| name);
    let restic = std::process::Command::new(lab::restic()?).arg("version").output()?;
    let restic = String::from_utf8_lossy(&restic.stdout).trim().to_owned();
    Ok(format!("{cpus} CPUs ({model}), load {}, {restic}", numbers::load()?))
}
