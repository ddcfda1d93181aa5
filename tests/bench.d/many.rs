//! A thousand backups of a thousand instances: start, reload, status.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use super::lab::Lab;
use super::numbers::{Sorted, megabytes, shown};
use super::table::Table;

const DEFINITIONS: usize = 1000;
const RUNS: usize = 5;

/// Start to the bus name, `Reload` to its answer, `holdfast status` to its end.
pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    let mut lab = Lab::new().await?;
    let mut definitions = lab.repository("ours");
    for number in 1..=DEFINITIONS {
        let name = format!("app{number}");
        let live = lab.path("live").join(&name);
        definitions.push_str(&format!(
            "[instance.{name}]\ninclude = [{live:?}]\n\
             [backup.{name}]\nrepositories = [\"ours\"]\ninstances = [\"{name}\"]\nretention = 3\n\
             schedule = \"Sun *-*-1..7 {:02}:{:02}\"\n",
            number % 24,
            number % 60
        ));
    }
    lab.write("config/conf.d/bench.toml", &definitions)?;
    let mut starts = vec![lab.start().await?];
    for _ in 1..RUNS {
        starts.push(lab.start().await?);
    }
    let (mut reloads, mut statuses) = (Vec::new(), Vec::new());
    let manager = lab.manager().await?;
    for _ in 0..RUNS {
        let begin = Instant::now();
        let diagnostics: Vec<String> = manager.call("Reload", &()).await?;
        reloads.push(begin.elapsed());
        ensure!(diagnostics.is_empty(), "{diagnostics:?}");
    }
    for _ in 0..4 * RUNS {
        let begin = Instant::now();
        let status = lab.client(&["status"]).stdout(Stdio::null()).status()?;
        statuses.push(begin.elapsed());
        ensure!(status.success(), "holdfast status failed");
    }
    let mut tell = |what: &str, times: Vec<Duration>, bar: u64, said: &str| {
        let times = Sorted::from(times);
        let figure = format!("{}, least {}", shown(times.median()), shown(times.least()));
        table.barred(what, figure, said, times.median() < Duration::from_millis(bar));
    };
    tell("1,000 backups of 1,000 instances: start to bus name", starts, 1000, "< 1 s");
    tell("the same: Reload to its answer", reloads, 1000, "< 1 s");
    tell("the same: holdfast status", statuses, 100, "< 100 ms");
    let status = std::fs::read_to_string(format!("/proc/{}/status", lab.pid()?))?;
    let rss =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok());
    table.plain("the same: memory", format!("{:.1} MB RSS", megabytes(rss.unwrap_or(0))));
    Ok(())
}
