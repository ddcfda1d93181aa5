//! A restore beside and in place, against bare `restic restore` of the same snapshot in the same run.
//!
//! `HOLDFAST_BENCH_RESTORE=MIB,FILES` asks for other amounts than 1,024 MiB and 100,000 files. The restic is that of the
//! PATH; before 0.17 none restores onto what is there, so a restore in place fetches everything.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::lab::{Lab, noise};
use super::numbers::{Sorted, shown};
use super::table::Table;

const RUNS: usize = 3;
/// A restore beside live data may take so many times as long as restic alone.
const WHOLE: f64 = 1.15;
/// A restore in place where one part in a hundred has changed.
const CHANGED: f64 = 0.3;
/// How many files hold the large amount.
const LARGE: usize = 16;

/// Large files first, then many small ones.
pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    let asked = std::env::var("HOLDFAST_BENCH_RESTORE").unwrap_or_else(|_| "1024,100000".to_owned());
    let (mib, files) = asked.split_once(',').context("HOLDFAST_BENCH_RESTORE is MIB,FILES")?;
    let (mib, files): (usize, usize) = (mib.parse()?, files.parse()?);
    let size = (mib << 20) / LARGE;
    one(table, &format!("{mib} MiB in {LARGE} files"), LARGE, |_| size).await?;
    one(table, &format!("{files} files"), files, |number| 2_000 + number % 4_096).await
}

async fn one(table: &mut Table, what: &str, files: usize, size: impl Fn(usize) -> usize) -> Result<()> {
    let mut lab = Lab::new().await?;
    let live = lab.path("live");
    let path = |number: usize| live.join(format!("{}/{number}", number % 64));
    for number in 0..files {
        std::fs::create_dir_all(path(number).parent().context("a path has a parent")?)?;
        std::fs::write(path(number), noise(size(number), "restore", number))?;
    }
    let definitions = [
        lab.repository("one"),
        format!("[instance.data]\ninclude = [{live:?}]\n"),
        "[backup.nightly]\nrepositories = [\"one\"]\ninstances = [\"data\"]\n".to_owned(),
    ];
    lab.write("config/conf.d/bench.toml", &definitions.concat())?;
    lab.start().await?;
    lab.run(&["nightly"]).await?;
    let (mut bare, mut synced, mut beside, mut in_place) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..RUNS {
        rustix::fs::sync();
        let (alone, with_sync) = bare_restore(&lab, &lab.path("bare"))?;
        bare.push(alone);
        synced.push(with_sync);
        rustix::fs::sync();
        let target = lab.path("beside");
        beside.push(lab.restore("data", Some(&target)).await?);
        std::fs::remove_dir_all(&target)?;
        change(files, size(0), round, path)?;
        rustix::fs::sync();
        in_place.push(lab.restore("data", None).await?);
    }
    let (bare, beside, in_place) = (Sorted::from(bare), Sorted::from(beside), Sorted::from(in_place));
    let synced = Sorted::from(synced);
    let ratio = beside.median().as_secs_f64() / synced.median().as_secs_f64();
    let figure = format!("{} to {}: {ratio:.2}", shown(beside.median()), shown(synced.median()));
    table.plain(&format!("restore of {what} into a directory, to bare `restic restore` and `sync`"), figure);
    row(table, &format!("restore of {what} into a directory"), &beside, &bare, WHOLE);
    row(table, &format!("restore of {what} in place, 1 % changed"), &in_place, &bare, CHANGED);
    Ok(())
}

/// How long restic takes, which does not wait for the disk, and how long until all of it is there, as a restore of ours is.
fn bare_restore(lab: &Lab, target: &Path) -> Result<(Duration, Duration)> {
    let text = target.display().to_string();
    let took = lab.bare_restic("one", &["restore", "latest", "--target", &text])?;
    let begun = Instant::now();
    rustix::fs::syncfs(std::fs::File::open(target)?)?;
    let synced = took + begun.elapsed();
    std::fs::remove_dir_all(target)?;
    Ok((took, synced))
}

/// One file in a hundred, or a hundredth of each where there are not so many.
fn change(files: usize, size: usize, round: usize, path: impl Fn(usize) -> PathBuf) -> Result<()> {
    let few = files < 100;
    for number in (0..files).step_by(if few { 1 } else { 100 }) {
        let mut file = std::fs::File::options().write(true).open(path(number))?;
        file.seek(SeekFrom::Start(if few { (size / 2) as u64 } else { 0 }))?;
        file.write_all(&noise(if few { size / 100 } else { 1_000 }, "changed", number + round))?;
    }
    Ok(())
}

fn row(table: &mut Table, what: &str, ours: &Sorted, bare: &Sorted, bar: f64) {
    let ratio = ours.median().as_secs_f64() / bare.median().as_secs_f64();
    let figure = format!("{} to {}: {ratio:.2}", shown(ours.median()), shown(bare.median()));
    table.barred(&format!("{what}, to bare `restic restore`"), figure, &format!("≤ {bar}"), ratio <= bar);
}
