use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::*;

fn queue(max_parallel: usize) -> (Queue, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (Queue::new(max_parallel, dir.path().join("locks")), dir)
}

fn caller(label: &str) -> Caller {
    Caller { label: label.into(), cancel: CancellationToken::new() }
}

fn quiet(_: Option<String>) {}

/// Polls once.
fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn waiting(queue: &Queue) -> Vec<String> {
    queue.waiting().into_iter().map(|w| w.label).collect()
}

#[tokio::test]
async fn who_waits_is_told_for_what_and_when_it_is_over() {
    let (queue, _dir) = queue(1);
    let told = Mutex::new(Vec::new());
    let tell = |why: Option<String>| told.lock().unwrap().push(why);
    let forget = queue.alone("id", "b2", &caller("forget of job j1"), quiet).await.unwrap();
    let prune = queue.clone();
    let mut prune =
        Box::pin(async move { prune.alone("id", "cloud", &caller("prune of job j2"), quiet).await });
    assert!(poll(prune.as_mut()).is_pending());
    let backup_caller = caller("backup of job j3");
    let mut backup = pin!(queue.share("id", "b2", &backup_caller, tell));
    assert!(poll(backup.as_mut()).is_pending());
    assert_eq!(queue.waiting()[1].why, "repository b2: forget of job j1 runs, then prune of job j2");
    assert_eq!(waiting(&queue), ["prune of job j2", "backup of job j3"]);
    drop(forget);
    drop(prune);
    let _held = backup.await.unwrap();
    let last = told.lock().unwrap().clone();
    assert_eq!(last[0].as_deref(), Some("repository b2: forget of job j1 runs, then prune of job j2"));
    assert_eq!(last.last().unwrap(), &None);
    assert_eq!(queue.waiting(), []);
}

#[tokio::test]
async fn who_need_not_wait_is_told_nothing() {
    let (queue, _dir) = queue(1);
    let silent = |why: Option<String>| panic!("told {why:?}");
    let _instance = queue.instance("a1", &caller("a"), silent).await.unwrap();
    let _share = queue.share("id", "b2", &caller("a"), silent).await.unwrap();
    let _also = queue.share("id", "b2", &caller("b"), silent).await.unwrap();
    let _permit = queue.permit(&caller("a"), silent).await.unwrap();
}

#[tokio::test]
async fn a_waiting_writer_holds_back_later_readers() {
    let (queue, _dir) = queue(9);
    let reader = queue.share("id", "b2", &caller("r1"), quiet).await.unwrap();
    let (w, r2) = (caller("w"), caller("r2"));
    let mut writer = Box::pin(queue.alone("id", "b2", &w, quiet));
    let mut later = Box::pin(queue.share("id", "b2", &r2, quiet));
    assert!(poll(writer.as_mut()).is_pending());
    assert!(poll(later.as_mut()).is_pending(), "a reader overtook a writer");
    drop(reader);
    let writer = writer.await.unwrap();
    assert!(poll(later.as_mut()).is_pending(), "a reader beside a writer");
    drop(writer);
    drop(later.await.unwrap());
}

#[tokio::test]
async fn a_cancelled_or_dropped_wait_leaves_no_trace() {
    let (queue, _dir) = queue(9);
    let reader = queue.share("id", "b2", &caller("r1"), quiet).await.unwrap();
    let (w1, w2, r2) = (caller("w1"), caller("w2"), caller("r2"));
    let mut cancelled = Box::pin(queue.alone("id", "b2", &w1, quiet));
    let mut dropped = Box::pin(queue.alone("id", "b2", &w2, quiet));
    let mut later = Box::pin(queue.share("id", "b2", &r2, quiet));
    for future in [&mut cancelled, &mut dropped] {
        assert!(poll(future.as_mut()).is_pending());
    }
    assert!(poll(later.as_mut()).is_pending());
    w1.cancel.cancel();
    let error = cancelled.await.unwrap_err();
    assert_eq!(error.to_string(), "cancelled while waiting for repository b2");
    drop(dropped);
    // The writers are gone: the reader comes in beside the first one.
    let later = later.await.unwrap();
    drop((reader, later));
    drop(queue.alone("id", "b2", &caller("w3"), |why| panic!("told {why:?}")).await.unwrap());
}

#[tokio::test]
async fn one_who_is_cancelled_already_gets_nothing() {
    let (queue, _dir) = queue(1);
    let caller = caller("a");
    caller.cancel.cancel();
    assert!(matches!(queue.permit(&caller, quiet).await, Err(Ended::Cancelled(_))));
}

#[tokio::test]
async fn a_guard_is_released_when_its_holder_panics() {
    let (queue, _dir) = queue(1);
    let theirs = queue.clone();
    let task = tokio::spawn(async move {
        let _guard = theirs.instance("a1", &caller("a"), quiet).await.unwrap();
        panic!("on purpose");
    });
    assert!(task.await.is_err());
    drop(queue.instance("a1", &caller("b"), quiet).await.unwrap());
}

#[tokio::test]
async fn the_cap_follows_the_configuration() {
    let (queue, _dir) = queue(1);
    let caller = caller("a");
    let first = queue.permit(&caller, quiet).await.unwrap();
    let mut second = Box::pin(queue.permit(&caller, quiet));
    assert!(poll(second.as_mut()).is_pending());
    queue.set_max_parallel(2);
    let second = second.await.unwrap();
    queue.set_max_parallel(0); // at least one
    let mut third = Box::pin(queue.permit(&caller, quiet));
    drop(first);
    assert!(poll(third.as_mut()).is_pending());
    drop(second);
    drop(third.await.unwrap());
}

#[tokio::test]
async fn a_lock_that_cannot_be_had_is_an_error_but_a_directory_that_cannot_be_written_is_not() {
    let (queue, dir) = queue(1);
    let long = "x".repeat(300);
    assert!(matches!(queue.share(&long, "b2", &caller("a"), quiet).await, Err(Ended::Failed(_))));
    std::fs::write(dir.path().join("locks"), "in the way").unwrap();
    let error = queue.instance("a1", &caller("a"), quiet).await.unwrap_err();
    assert!(format!("{error:#}").contains("locks"), "{error:#}");
    // After the error the lane is free.
    std::fs::remove_file(dir.path().join("locks")).unwrap();
    drop(queue.instance("a1", &caller("b"), |why| panic!("told {why:?}")).await.unwrap());
    // Nothing can be made in /sys, not even by root.
    let queue = Queue::new(1, "/sys/holdfast-locks".into());
    match queue.instance("a1", &caller("a"), quiet).await {
        Ok(_) => {}
        Err(e) => panic!("{e:#}"),
    }
}

/// What a thousand tasks saw of each other.
#[derive(Default)]
struct Seen {
    readers: HashMap<usize, usize>,
    writers: HashMap<usize, usize>,
    instances: HashMap<usize, usize>,
    permits: usize,
    most_permits: usize,
    done: usize,
    cancelled: usize,
}

/// A small generator of numbers: the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn one_of_a_thousand(queue: Queue, seen: Arc<Mutex<Seen>>, n: usize) -> Result<(), Ended> {
    let mut dice = Dice(n as u64 * 7919 + 1);
    let caller = caller(&format!("job {n}"));
    if dice.roll(5) == 0 {
        let (cancel, after) = (caller.cancel.clone(), Duration::from_micros(dice.roll(20_000)));
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            cancel.cancel();
        });
    }
    let (instance, repository, writes) = (dice.roll(40) as usize, dice.roll(4) as usize, dice.roll(8) == 0);
    let _instance = queue.instance(&instance.to_string(), &caller, quiet).await?;
    let key = repository.to_string();
    let _repository = match writes {
        true => queue.alone(&key, &key, &caller, quiet).await?,
        false => queue.share(&key, &key, &caller, quiet).await?,
    };
    let _permit = queue.permit(&caller, quiet).await?;
    let change = |by: isize| {
        let mut seen = seen.lock().unwrap();
        let kind = if writes { &mut seen.writers } else { &mut seen.readers };
        let n = kind.entry(repository).or_default();
        *n = n.checked_add_signed(by).unwrap();
        let n = seen.instances.entry(instance).or_default();
        *n = n.checked_add_signed(by).unwrap();
        seen.permits = seen.permits.checked_add_signed(by).unwrap();
        seen.most_permits = seen.most_permits.max(seen.permits);
        assert!(seen.permits <= 5, "the cap was exceeded");
        assert!(seen.instances.values().all(|n| *n <= 1), "two jobs in one instance");
        let (readers, writers) = (seen.readers.get(&repository), seen.writers.get(&repository));
        let (readers, writers) = (readers.copied().unwrap_or(0), writers.copied().unwrap_or(0));
        assert!(writers == 0 || (writers == 1 && readers == 0), "{writers} writers beside {readers} readers");
    };
    change(1);
    tokio::time::sleep(Duration::from_micros(dice.roll(300))).await;
    change(-1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_mixed_requests_never_meet_and_all_end() {
    let (queue, _dir) = queue(5);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..1000 {
        let (queue, seen) = (queue.clone(), Arc::clone(&seen));
        tasks.spawn(async move {
            let ended = one_of_a_thousand(queue, Arc::clone(&seen), n).await;
            let mut seen = seen.lock().unwrap();
            match ended {
                Ok(()) => seen.done += 1,
                Err(Ended::Cancelled(_)) => seen.cancelled += 1,
                Err(e) => panic!("{e:#}"),
            }
        });
    }
    let all = async {
        while let Some(task) = tasks.join_next().await {
            task.unwrap()
        }
    };
    tokio::time::timeout(Duration::from_secs(120), all).await.expect("somebody starved");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.done + seen.cancelled, 1000);
    assert!(seen.done >= 750 && seen.cancelled > 0, "{} done, {} cancelled", seen.done, seen.cancelled);
    assert_eq!(seen.most_permits, 5, "the cap was never reached");
    assert_eq!(queue.waiting(), []);
    assert!(queue.is_idle(), "somebody who is gone still holds something");
}

#[tokio::test]
async fn requests_are_served_in_order_of_arrival() {
    let (queue, _dir) = queue(1);
    let order = Arc::new(Mutex::new(Vec::new()));
    let first = queue.permit(&caller("first"), quiet).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..200 {
        let (theirs, order) = (queue.clone(), Arc::clone(&order));
        tasks.spawn(async move {
            let _permit = theirs.permit(&caller(&n.to_string()), quiet).await.unwrap();
            order.lock().unwrap().push(n);
        });
        while queue.waiting().len() <= n {
            tokio::task::yield_now().await;
        }
    }
    drop(first);
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert_eq!(*order.lock().unwrap(), (0..200).collect::<Vec<_>>());
}

#[tokio::test]
async fn twenty_backups_and_a_forget_queued_together_end_with_the_forget() {
    let (queue, _dir) = queue(20);
    let order = Arc::new(Mutex::new(Vec::new()));
    let gate = queue.alone("id", "b2", &caller("gate"), quiet).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..21 {
        let (theirs, order) = (queue.clone(), Arc::clone(&order));
        tasks.spawn(async move {
            let caller = caller(&n.to_string());
            let _guard = match n {
                20 => theirs.alone("id", "b2", &caller, quiet).await.unwrap(),
                _ => theirs.share("id", "b2", &caller, quiet).await.unwrap(),
            };
            order.lock().unwrap().push(n);
        });
        while queue.waiting().len() <= n {
            tokio::task::yield_now().await;
        }
    }
    drop(gate);
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
    }
    assert_eq!(order.lock().unwrap().last(), Some(&20));
}

#[tokio::test]
async fn higher_priority_goes_first_and_equal_ones_in_order() {
    let (queue, _dir) = queue(1);
    let first = queue.permit(&caller("first"), quiet).await.unwrap();
    let mut joined = Vec::new();
    for (label, priority) in [("a", 0), ("low", -5), ("high", 5), ("b", 0), ("high too", 5)] {
        let (queue, who) = (queue.with_priority(priority), caller(label));
        let mut wait = Box::pin(async move { queue.permit(&who, quiet).await });
        assert!(poll(wait.as_mut()).is_pending());
        joined.push(wait);
    }
    assert_eq!(waiting(&queue), ["high", "high too", "a", "b", "low"]);
    drop(first);
    let held = joined.remove(2).await.unwrap();
    assert_eq!(waiting(&queue), ["high too", "a", "b", "low"]);
    drop(held);
}

#[tokio::test]
async fn low_priority_is_passed_a_few_times_and_then_served() {
    let (queue, _dir) = queue(1);
    let mut held = queue.permit(&caller("first"), quiet).await.unwrap();
    let (low, who) = (queue.with_priority(-10), caller("low"));
    let mut low = Box::pin(async move { low.permit(&who, quiet).await });
    assert!(poll(low.as_mut()).is_pending());
    let mut passed = 0;
    loop {
        let (high, who) = (queue.with_priority(10), caller("high"));
        let mut high = Box::pin(async move { high.permit(&who, quiet).await });
        assert!(poll(high.as_mut()).is_pending());
        drop(held);
        if poll(low.as_mut()).is_ready() {
            break;
        }
        held = high.await.unwrap();
        passed += 1;
        assert!(passed < 100, "low priority starves");
    }
    assert_eq!(passed, 8);
}
