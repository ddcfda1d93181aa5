//! Twenty small instances in one shared repository, one file changed in each.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::lab::Lab;
use super::numbers::{Sorted, shown};
use super::table::Table;

const INSTANCES: usize = 20;
const ROUNDS: usize = 3;

/// Ours, and one `backup` and one `forget` after another for each, in turn.
pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    let mut lab = Lab::new().await?;
    let names: Vec<String> = (1..=INSTANCES).map(|number| format!("app{number}")).collect();
    let mut definitions = lab.repository("ours");
    for name in &names {
        definitions.push_str(&lab.instance(name, 20)?);
    }
    definitions.push_str("[backup.all]\nrepositories = [\"ours\"]\ninstances = [\"*\"]\nretention = 1\n");
    lab.write("config/conf.d/bench.toml", &definitions)?;
    lab.start().await?;
    lab.bare_restic("bare", &["init"])?;
    lab.copy_repository("bare", "ours")?;
    one_after_another(&lab, &names)?;
    lab.run(&["all"]).await?;
    let (mut bare, mut ours, mut calls) = (Vec::new(), Vec::new(), 0);
    for round in 0..ROUNDS {
        for name in &names {
            lab.change(name, round)?;
        }
        bare.push(one_after_another(&lab, &names)?);
        lab.stopwatch.take()?;
        ours.push(lab.run(&["all"]).await?);
        calls = calls.max(lab.stopwatch.take()?.len());
    }
    let (bare, ours) = (Sorted::from(bare), Sorted::from(ours));
    let most = INSTANCES + 2;
    table.barred(
        "20 instances, one shared repository: restic calls",
        calls.to_string(),
        "<= 22",
        calls <= most,
    );
    let ratio = ours.median().as_secs_f64() / bare.median().as_secs_f64();
    let figure = format!("{} to {}: {ratio:.2}", shown(ours.median()), shown(bare.median()));
    table.barred(
        &format!("the same to `backup` + `forget` one after another, medians of {ROUNDS}"),
        figure,
        "<= 0.25",
        ratio <= 0.25,
    );
    Ok(())
}

fn one_after_another(lab: &Lab, names: &[String]) -> Result<Duration> {
    let begin = Instant::now();
    for name in names {
        let (live, tag) = (lab.path("live").join(name).display().to_string(), format!("instance={name}"));
        lab.bare_restic("bare", &["backup", "--json", "--host", "bench", "--tag", &tag, &live])?;
        let keep = ["--keep-last", "1", "--group-by", "host,tags"];
        lab.bare_restic("bare", &[["forget", "--host", "bench", "--tag", &tag].as_slice(), &keep].concat())?;
    }
    Ok(begin.elapsed())
}
