//! The rollback job: what a restore replaced lives again, and what it brought is kept in its place.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use tracing::{error, info};

use super::boot::Boot;
use super::dumps::{self, Changed};
use super::kept::{self, Kept, RootWas, Swapped};
use super::{NotPutBack, held, swap};
use crate::definition::Instance;
use crate::dump;
use crate::job::far::{Far, Tries};
use crate::job::held::Was;
use crate::job::live::append;
use crate::job::services::{For, Quiet};
use crate::job::{Context, Live};
use crate::restic;
use crate::state::undo::{Step, Undo};
use crate::state::{Outcome, Phase, UnitRecord};
use crate::target::Root;

/// Runs the job to its end; how it ended stands in `live`.
pub async fn run(context: Context, live: Arc<Live>, instance: Arc<Instance>) {
    let unit =
        UnitRecord { instance: instance.name.to_string(), phase: Phase::Plan, ..UnitRecord::default() };
    live.update_stored(|record| {
        record.started = Some(Timestamp::now());
        record.units = vec![unit];
    })
    .await;
    let name = &instance.name;
    let (outcome, text) = match work(&context, &live, &instance).await {
        Ok(text) => {
            let (text, troubles) = text;
            let outcome = if troubles.is_empty() { Outcome::Succeeded } else { Outcome::Warning };
            let text = troubles.into_iter().chain([text]).collect::<Vec<_>>().join("\n");
            info!(holdfast_instance = %name, holdfast_outcome = %outcome, "rolled back {name}; {text}");
            (outcome, text)
        }
        Err(failure) => {
            let (outcome, text) = live.verdict(&failure);
            error!(holdfast_instance = %name, holdfast_outcome = %outcome, "{name} was not rolled back: {text}");
            (outcome, text)
        }
    };
    live.unit(name, "", |unit| {
        unit.outcome = Some(outcome);
        append(&mut unit.error, &text);
    });
}

async fn work(
    context: &Context,
    live: &Arc<Live>,
    instance: &Arc<Instance>,
) -> Result<(String, Vec<String>)> {
    let name = &instance.name;
    let wait = |reason| live.waits(name, reason);
    let _instance = context.queue.instance(name, &live.caller(), wait).await?;
    let newest = kept::list(context, Some(name)).await?.into_iter().next();
    let kept = newest.with_context(|| format!("nothing is kept of {name} that could be put back"))?;
    check(&kept).await.context("nothing was changed")?;
    let undo = Undo::begin(&context.dirs.undo(), live.id())?;
    live.unit(name, "", |unit| unit.phase = Phase::Quiesce);
    let quiet = Quiet::new(context, live, instance, For::Restore);
    let mut done = Done::default();
    let exchanged = async {
        quiet.stop().await.context("services could not be stopped")?;
        if !kept.dumps.is_empty() {
            quiet.start_for_dump().await.context("the databases are to be put back")?;
        }
        live.unit(name, "", |unit| unit.phase = Phase::Rollback);
        exchange(context, live, instance, &undo, &kept, &mut done).await
    };
    let exchanged = exchanged.await;
    let result = ended(context, live, instance, (&undo, &kept), exchanged, done).await;
    if result.as_ref().is_err_and(|failure| failure.is::<NotPutBack>()) {
        quiet.resume().await;
        return Err(result.err().unwrap_or_else(|| anyhow::anyhow!("not put back")));
    }
    live.unit(name, "", |unit| unit.phase = Phase::Resume);
    let told = quiet.resume().await.told();
    quiet.close().await;
    result.map(|text| (text, told))
}

/// Forgets what is no longer true, or undoes what was exchanged.
async fn ended(
    context: &Context,
    live: &Live,
    instance: &Arc<Instance>,
    (undo, kept): (&Undo, &Kept),
    exchanged: Result<Kept>,
    done: Done,
) -> Result<String> {
    match exchanged {
        Ok(now) => {
            // The record of the restore is replaced by ours already; it only takes room.
            if let Err(failure) = kept::forget(context, kept).await {
                tracing::warn!("the record of {} could not be removed: {failure:#}", kept.job);
            }
            Ok(now.told())
        }
        Err(failure) => match undone(context, live, instance, done).await {
            Ok(()) => {
                kept::forget(context, &Kept { job: live.id().to_owned(), failed: None, ..kept.clone() })
                    .await?;
                undo.finish().await?;
                Err(failure.context("everything is as it was before the rollback"))
            }
            Err(second) => Err(failure.context(NotPutBack(format!("{second:#}")))),
        },
    }
}

/// Whether everything is still where the restore put it.
async fn check(kept: &Kept) -> Result<()> {
    let (swaps, held) = (kept.swaps.clone(), kept.held.clone());
    tokio::task::spawn_blocking(move || {
        for was in &held {
            anyhow::ensure!(was.data.0.is_dir(), "the old data is no longer at {}", was.data.0.display());
        }
        swaps.iter().try_for_each(|s| swap::tradable(&s.live.0, &s.aside.0, s.new, s.old))
    })
    .await?
}

/// Exchanges what lives and what is kept, the last one first. What was done stands in `done`.
async fn exchange(
    context: &Context,
    live: &Live,
    instance: &Arc<Instance>,
    undo: &Undo,
    kept: &Kept,
    done: &mut Done,
) -> Result<Kept> {
    if !kept.dumps.is_empty() {
        let place = dumps::place_of(context, instance).await?;
        dumps::exchange(context, &place, undo, live.id(), kept, &mut done.dumps).await?;
    }
    // Written before the exchanges, so undone after them: those change the roots' times.
    done.roots = roots_as_they_are(undo, kept).await?;
    dump::at_rest(kept.swaps.iter().map(|swapped| swapped.live.0.clone()).collect()).await?;
    for swapped in kept.swaps.iter().rev() {
        anyhow::ensure!(!live.cancelled().is_cancelled(), restic::Error::Cancelled);
        let step = Step::SwapBack {
            instance: kept.instance.clone(),
            live: swapped.live.0.clone(),
            aside: swapped.aside.0.clone(),
            inode: swapped.new,
        };
        undo.push(step).await?;
        let back = Swapped { old: swapped.new, new: swapped.old, ..swapped.clone() };
        done.swaps.push(back);
        let s = swapped.clone();
        tokio::task::spawn_blocking(move || swap::trade(&s.live.0, &s.aside.0, s.new, s.old)).await??;
    }
    held::exchange(context, live, instance, undo, kept, &mut done.held).await?;
    for far in kept.far.iter().rev() {
        let step = Step::FarBack { instance: kept.instance.clone(), far: serde_json::to_value(far)? };
        undo.push(step).await?;
        done.far.push(far.clone());
        far.swap(live.cancelled()).await?;
    }
    put_on(&kept.roots).await?;
    let keep = instance.restore.keep_previous;
    let now = Timestamp::now();
    let record = Kept {
        job: live.id().to_owned(),
        snapshot: String::new(),
        made: now,
        until: now.saturating_add(jiff::SignedDuration::try_from(keep)?)?,
        bytes: kept.bytes,
        replaces: Some(kept.job.clone()),
        swaps: done.swaps.clone(),
        dumps: done.dumps.clone(),
        failed: None,
        roots: done.roots.clone(),
        held: done.held.clone(),
        far: done.far.iter().map(Far::reversed).collect(),
        boot: Boot::now(),
        ..kept.clone()
    };
    kept::write(context, undo, &record).await?;
    // This is the moment: before it a crash undoes the rollback, after it the rollback stands.
    undo.finish().await?;
    Ok(record)
}

/// What a rollback exchanged so far.
#[derive(Default)]
struct Done {
    swaps: Vec<Swapped>,
    dumps: Vec<Changed>,
    roots: Vec<RootWas>,
    held: Vec<Was>,
    far: Vec<Far>,
}

/// What the roots are now, each written down to be put back.
async fn roots_as_they_are(undo: &Undo, kept: &Kept) -> Result<Vec<RootWas>> {
    let mut roots = Vec::new();
    for RootWas { dir, was } in &kept.roots {
        let (at, path, kind) = (dir.0.clone(), was.path.clone(), was.kind);
        let Some(is) = tokio::task::spawn_blocking(move || Root::of(&path, kind, &at)).await?? else {
            continue;
        };
        undo.push(Step::PutOn { dir: dir.0.clone(), root: serde_json::to_value(&is)? }).await?;
        roots.push(RootWas { dir: dir.clone(), was: is });
    }
    Ok(roots)
}

/// Gives the roots what they had; one that is gone has nothing.
async fn put_on(roots: &[RootWas]) -> Result<()> {
    let roots = roots.to_vec();
    tokio::task::spawn_blocking(move || {
        let mut there = roots.iter().filter(|root| root.dir.0.is_dir());
        there.try_for_each(|root| root.was.put_on(&root.dir.0))
    })
    .await?
}

async fn undone(context: &Context, live: &Live, instance: &Arc<Instance>, done: Done) -> Result<()> {
    for far in done.far.iter().rev() {
        far.put_back_at_last(&instance.name, |reason| live.waits(&instance.name, reason)).await?;
    }
    if !done.dumps.is_empty() {
        let place = dumps::place_of(context, instance).await?;
        let mut tries = Tries::new();
        while let Err(failure) = dumps::put_back(context, &place, &done.dumps).await {
            tries.again(&instance.name, &|reason| live.waits(&instance.name, reason), failure).await?;
        }
    }
    let swaps = done.swaps;
    tokio::task::spawn_blocking(move || {
        swaps.iter().rev().try_for_each(|s| swap::put_back(&s.live.0, &s.aside.0, s.old))
    })
    .await??;
    for was in &done.held {
        was.put_back().await?;
    }
    put_on(&done.roots).await
}
