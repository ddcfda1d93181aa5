//! A streamed dump against the same program in a plain pipe into `restic backup --stdin`, in the same run.
//!
//! `HOLDFAST_BENCH_STREAM=MIB` asks for another amount than 512 MiB.

use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};

use super::lab::Lab;
use super::numbers::{Sorted, shown};
use super::table::Table;

const RUNS: usize = 5;
const BAR: f64 = 0.95;

/// Both sides in turn, each time with bytes that no repository has seen: the pipe, and the restic that reads our stream.
pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    let asked = std::env::var("HOLDFAST_BENCH_STREAM").unwrap_or_else(|_| "512".to_owned());
    let mib: usize = asked.parse().context("HOLDFAST_BENCH_STREAM is MIB")?;
    let mut lab = Lab::new().await?;
    let print = lab.path("print");
    let definitions = [
        lab.repository("one"),
        format!(
            "[instance.data]\n[[instance.data.dump]]\nsource = \"command\"\nstream = true\ncommand = [\"sh\", {print:?}]\n"
        ),
        "[backup.nightly]\nrepositories = [\"one\"]\ninstances = [\"data\"]\n".to_owned(),
    ];
    lab.write("config/conf.d/bench.toml", &definitions.concat())?;
    lab.start().await?;
    lab.write("print", "echo first\n")?;
    lab.run(&["nightly"]).await?;
    let (mut pipe, mut ours, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..RUNS {
        lab.write("print", &generator(mib, 2 * round))?;
        pipe.push(piped(&lab)?);
        lab.write("print", &generator(mib, 2 * round + 1))?;
        lab.stopwatch.take()?;
        whole.push(lab.run(&["nightly"]).await?);
        let calls = lab.stopwatch.take()?;
        ours.push(calls.iter().find(|call| call.command == "backup").context("no stream")?.took);
    }
    let (pipe, ours, whole) = (Sorted::from(pipe), Sorted::from(ours), Sorted::from(whole));
    let ratio = |ours: &Sorted| pipe.median().as_secs_f64() / ours.median().as_secs_f64();
    let figure =
        |ours: &Sorted| format!("{} to {}: {:.2}", shown(ours.median()), shown(pipe.median()), ratio(ours));
    let what = format!("a stream of {mib} MiB, speed to that of a plain pipe into restic");
    table.barred(&what, figure(&ours), "≥ 0.95", ratio(&ours) >= BAR);
    table.plain(
        &format!("the whole backup with it, to that pipe (medians of {})", whole.len()),
        figure(&whole),
    );
    Ok(())
}

/// Bytes that neither compress nor repeat, another sequence for each number.
fn generator(mib: usize, number: usize) -> String {
    format!(
        "openssl enc -aes-128-ctr -K {number:032x} -iv 00 -nosalt </dev/zero 2>/dev/null | head -c {mib}M\n"
    )
}

fn piped(lab: &Lab) -> Result<std::time::Duration> {
    let begin = Instant::now();
    let mut print = std::process::Command::new("sh");
    let mut printing = print.arg(lab.path("print")).stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let from = printing.stdout.take().context("no pipe")?;
    let mut bare = lab.bare("one")?;
    let done = bare.args(["backup", "--json", "--stdin", "--stdin-filename", "dump"]).stdin(from).output()?;
    ensure!(printing.wait()?.success() && done.status.success(), "the plain pipe failed");
    Ok(begin.elapsed())
}
