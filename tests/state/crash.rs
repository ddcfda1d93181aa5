//! kill -9 at any moment: what was answered is there, nothing is half there.

use std::collections::BTreeSet;
use std::path::Path;

use holdfast::state::undo::{Recorded, Step, Undo, pending};
use holdfast::state::{Database, JobFilter, Opened, Outcome, SetFilter};
use jiff::Timestamp;

use crate::records::{job, set};
use crate::victim::{Dice, Victim, given, say};

const SETS: usize = 5;

/// The steps of one round of the victim, in order; each is said when it was answered.
const STEPS: [&str; 6] = ["job", "undo", "sets", "slot", "done", "finished"];

#[tokio::test]
#[ignore = "the victim of the test below"]
async fn victim() {
    let (dir, run) = given();
    let run: i64 = run.parse().unwrap();
    let (db, _) = Database::open(&dir, Timestamp::now()).unwrap();
    for n in 0.. {
        let id = format!("j{run:04}x{n:04}");
        db.save_job(&job(&id, None)).await.unwrap();
        say(&format!("job {n}"));
        let undo = Undo::begin(&dir.join("undo"), &id).unwrap();
        undo.push(Step::RemoveDir { path: format!("/staging/{id}").into() }).await.unwrap();
        say(&format!("undo {n}"));
        let sets = (0..SETS).map(|k| set(&id, k)).collect();
        db.replace_sets("b2", "", Timestamp::now(), sets).await.unwrap();
        say(&format!("sets {n}"));
        db.set_decided("backup/daily", slot(run, n)).await.unwrap();
        say(&format!("slot {n}"));
        db.save_job(&job(&id, Some(Outcome::Succeeded))).await.unwrap();
        say(&format!("done {n}"));
        undo.finish().await.unwrap();
        say(&format!("finished {n}"));
    }
}

fn slot(run: i64, n: i64) -> Timestamp {
    Timestamp::from_second(run * 1_000_000 + n).unwrap()
}

#[tokio::test]
async fn a_kill_at_any_moment_loses_nothing_that_was_answered() {
    let mut dir = tempfile::tempdir().unwrap();
    let runs = if std::env::var_os("HOLDFAST_SOAK").is_some() { 1000 } else { 50 };
    let mut dice = Dice(1);
    let (mut finished, mut all) = (0, 0);
    for run in 0..runs {
        if run % 50 == 0 {
            (dir, finished) = (tempfile::tempdir().unwrap(), 0);
        }
        let mut victim = Victim::start("crash::victim", dir.path(), &run.to_string());
        let mut last = None;
        for _ in 0..dice.roll(60) {
            last = victim.hear();
            assert!(last.is_some(), "the victim of run {run} ended by itself");
        }
        victim.kill();
        while let Some(said) = victim.hear() {
            last = Some(said);
        }
        let before = finished;
        finished = check(dir.path(), run, last.as_deref(), finished).await;
        all += finished - before;
    }
    assert!(all > runs as u64, "the victims did next to nothing");
}

/// Looks at what a victim left, given its last answer, as a daemon does at start. Returns how many jobs have succeeded.
async fn check(dir: &Path, run: i64, last: Option<&str>, finished: u64) -> u64 {
    let (db, opened) = Database::open(dir, Timestamp::now()).unwrap();
    assert!(matches!(opened, Opened::Existing | Opened::Fresh), "run {run}: {opened}");
    let place = |word: &str| STEPS.iter().position(|step| *step == word).unwrap();
    let (step, n) = match last.and_then(|last| last.split_once(' ')) {
        Some((word, n)) => (Some(place(word)), n.parse::<i64>().unwrap()),
        None => (None, 0),
    };
    let id = format!("j{run:04}x{n:04}");
    let answered = |word: &str| step.is_some_and(|step| step >= place(word));

    check_jobs(&db, run).await;
    let job = db.job(&id).await.unwrap();
    assert!(job.is_some() || !answered("job"), "run {run}: job {id} is lost");
    if answered("done") {
        assert_eq!(job.unwrap().outcome, Some(Outcome::Succeeded), "run {run}: the outcome of {id} is lost");
    }
    check_undo(dir, &id, answered("undo") && !answered("done"), answered("finished")).await;

    check_sets(&db, run, answered("sets").then_some(&id)).await;
    let decided = db.decided("backup/daily").await.unwrap();
    assert!(!answered("slot") || decided >= Some(slot(run, n)), "run {run}: a slot is lost: {decided:?}");

    let succeeded = check_counters(&db, run).await;
    assert!(succeeded >= finished, "run {run}: jobs are lost");
    db.interrupt_unfinished(Timestamp::now()).await.unwrap();
    assert_eq!(db.unfinished_jobs().await.unwrap(), []);
    succeeded
}

/// No job is half there.
async fn check_jobs(db: &Database, run: i64) {
    let jobs = db.jobs(JobFilter::default()).await.unwrap();
    for job in &jobs {
        assert_eq!(job.units.len(), 3, "run {run}: half a job: {job:?}");
        let outcomes: BTreeSet<_> = job.units.iter().map(|unit| unit.outcome).collect();
        assert_eq!(outcomes.into_iter().collect::<Vec<_>>(), [job.outcome], "run {run}: half a job: {job:?}");
    }
}

/// One list of sets is there, whole, and not older than the one that was answered.
async fn check_sets(db: &Database, run: i64, answered: Option<&String>) {
    let sets = db.sets(SetFilter::default()).await.unwrap();
    let generations: BTreeSet<_> = sets.iter().map(|set| set.set.clone()).collect();
    assert!(
        sets.is_empty() || (sets.len() == SETS && generations.len() == 1),
        "run {run}: half a list: {generations:?}"
    );
    assert!(generations.first() >= answered, "run {run}: a list is lost: {generations:?}");
}

/// How many jobs have succeeded, as both the jobs and the counters say.
async fn check_counters(db: &Database, run: i64) -> u64 {
    let jobs = db.jobs(JobFilter::default()).await.unwrap();
    let succeeded = jobs.iter().filter(|job| job.outcome == Some(Outcome::Succeeded)).count() as u64;
    let total = db.jobs_total().await.unwrap();
    let counted = total.iter().find(|of| of.1 == Outcome::Succeeded).map_or(0, |of| of.2);
    assert_eq!(counted, succeeded, "run {run}: the counters and the jobs differ");
    succeeded
}

/// Looks at the undo steps, and runs them.
async fn check_undo(dir: &Path, id: &str, must_be_there: bool, must_be_gone: bool) {
    let undo = dir.join("undo");
    let pending = pending(&undo).unwrap();
    assert!(pending.len() <= 1, "steps of {pending:?}");
    for of in &pending {
        assert_eq!(of.problems, [""; 0]);
        let expected = Recorded::Known(Step::RemoveDir { path: format!("/staging/{}", of.job).into() });
        assert!(of.steps.is_empty() || of.steps == [(0, expected)], "{of:?}");
    }
    let ours = pending.iter().find(|of| of.job == id);
    assert!(!must_be_there || ours.is_some_and(|of| of.steps.len() == 1), "the step of {id} is lost");
    assert!(!must_be_gone || ours.is_none(), "the step of {id} is still there");
    for of in &pending {
        Undo::resume(&undo, &of.job).unwrap().finish().await.unwrap();
    }
}
