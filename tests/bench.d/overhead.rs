//! What one backup of one instance costs beside restic's own time.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::lab::Lab;
use super::numbers::{Sorted, shown};
use super::table::Table;

const RUNS: usize = 15;
const BAR: Duration = Duration::from_millis(20);

/// Bare restic and ours in turn, of the same files into the same repository.
pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    let mut lab = Lab::new().await?;
    let definitions = [
        lab.repository("one"),
        lab.instance("wiki", 200)?,
        "[backup.nightly]\nrepositories = [\"one\"]\ninstances = [\"wiki\"]\n".to_owned(),
    ];
    lab.write("config/conf.d/bench.toml", &definitions.concat())?;
    lab.start().await?;
    lab.run(&["nightly"]).await?;
    let live = lab.path("live/wiki").display().to_string();
    let arguments = ["backup", "--json", "--host", "bare", "--tag", "bare", &live];
    lab.bare_restic("one", &arguments)?;
    let (mut bare, mut ours, mut beside) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..RUNS {
        lab.change("wiki", round)?;
        bare.push(lab.bare_restic("one", &arguments)?);
        lab.stopwatch.take()?;
        let whole = lab.run(&["nightly"]).await?;
        let calls = lab.stopwatch.take()?;
        ensure!(calls.len() == 1, "a backup needed {calls:?}");
        let restic = calls.first().context("no call")?.took;
        ours.push(whole);
        beside.push(whole.saturating_sub(restic));
    }
    let (bare, ours, beside) = (Sorted::from(bare), Sorted::from(ours), Sorted::from(beside));
    let figure = format!("{}, least {}", shown(beside.median()), shown(beside.least()));
    table.barred(
        &format!("one backup, without restic's own time (median of {})", beside.len()),
        figure,
        "< 20 ms",
        beside.median() < BAR,
    );
    let ratio = ours.median().as_secs_f64() / bare.median().as_secs_f64();
    let figure = format!("{} to {}: {ratio:.2}", shown(ours.median()), shown(bare.median()));
    table.plain("one backup to bare `restic backup`, medians", figure);
    Ok(())
}
