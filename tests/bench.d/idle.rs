//! What the daemon costs while nothing is to be done: 100 backups defined, 60 seconds.

use std::time::Duration;

use anyhow::{Context as _, Result};

use super::lab::Lab;
use super::numbers::{megabytes, shown};
use super::table::Table;

const BACKUPS: usize = 100;
const SECONDS: u64 = 60;

/// Threads that served the start are gone by then.
const SETTLE: Duration = Duration::from_secs(15);

/// Counts over a quiet minute.
pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    let mut lab = Lab::new().await?;
    let mut definitions = lab.repository("ours");
    for number in 1..=BACKUPS {
        let name = format!("app{number}");
        definitions.push_str(&lab.instance(&name, 1)?);
        definitions.push_str(&format!(
            "[backup.{name}]\nrepositories = [\"ours\"]\ninstances = [\"{name}\"]\nretention = 3\n\
             schedule = \"Sun *-*-1..7 00:{:02}\"\n",
            number % 60
        ));
    }
    lab.write("config/conf.d/bench.toml", &definitions)?;
    lab.start().await?;
    tokio::time::sleep(SETTLE).await;
    let pid = lab.pid()?;
    let before = Usage::of(pid)?;
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let after = Usage::of(pid)?;
    tell(table, &before, &after);
    let backups: Vec<String> = (1..=BACKUPS).step_by(10).map(|number| format!("app{number}")).collect();
    lab.run(&backups.iter().map(String::as_str).collect::<Vec<_>>()).await?;
    tokio::time::sleep(SETTLE).await;
    let rss = megabytes(Usage::of(pid)?.rss);
    table.barred("the same after 10 jobs", format!("{rss:.1} MB RSS"), "< 15 MB", rss < 15.0);
    Ok(())
}

fn tell(table: &mut Table, before: &Usage, after: &Usage) {
    let what = format!("idle, {BACKUPS} backups defined");
    let rss = megabytes(after.rss);
    let figure =
        format!("{rss:.1} MB RSS ({:.1} MB of its own), {} threads", megabytes(after.own), after.threads);
    table.barred(&what, figure, "< 15 MB", rss < 15.0);
    let cpu = after.cpu.saturating_sub(before.cpu);
    #[expect(clippy::cast_precision_loss, reason = "a figure for eyes")]
    let percent = cpu.as_secs_f64() / SECONDS as f64 * 100.0;
    let figure = format!("{percent:.4} % ({})", shown(cpu));
    table.barred(&format!("the same: CPU over {SECONDS} s"), figure, "< 0.1 %", percent < 0.1);
    let wakeups = after.switches.saturating_sub(before.switches);
    table.plain(&format!("the same: wake-ups of all threads over {SECONDS} s"), wakeups.to_string());
}

/// What a process used so far, and what it holds.
struct Usage {
    cpu: Duration,
    switches: u64,
    threads: usize,
    /// KiB, with what the files of programs and libraries share with others.
    rss: u64,
    /// KiB that nobody else has.
    own: u64,
}

impl Usage {
    fn of(pid: u32) -> Result<Self> {
        let process = format!("/proc/{pid}");
        let status = read(&format!("{process}/status"))?;
        let rollup = read(&format!("{process}/smaps_rollup"))?;
        let mut usage = Self {
            cpu: Duration::ZERO,
            switches: 0,
            threads: 0,
            rss: field(&status, "VmRSS:")?,
            own: field(&rollup, "Private_Clean:")? + field(&rollup, "Private_Dirty:")?,
        };
        for task in std::fs::read_dir(format!("{process}/task"))? {
            let task = task?.path().display().to_string();
            let status = read(&format!("{task}/status"))?;
            usage.switches += field(&status, "voluntary_ctxt_switches:")?;
            let schedstat = read(&format!("{task}/schedstat"))?;
            let nanos = schedstat.split_whitespace().next().context("schedstat is empty")?;
            usage.cpu += Duration::from_nanos(nanos.parse()?);
            usage.threads += 1;
        }
        Ok(usage)
    }
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.to_owned())
}

fn field(text: &str, name: &str) -> Result<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}
