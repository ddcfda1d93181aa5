//! The tick on the real clock, and with it the contract that it leans on in tokio-cron-scheduler.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdfast::calendar::Schedule;
use holdfast::schedule::{Due, Entry, Kind, Planner, Trigger};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// An entry with a slot at `slot`, and then every hour.
fn hourly_from(key: String, slot: Timestamp) -> Entry {
    Entry {
        key,
        schedule: Schedule::parse("every 1h").unwrap(),
        zone: TimeZone::UTC,
        random_delay: Duration::ZERO,
        blackout: Vec::new(),
        catch_up: true,
        decided: Some(slot - 1.hour()),
    }
}

fn soon() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second() + 2).unwrap()
}

async fn started(entries: Vec<Entry>) -> (Trigger, Arc<Mutex<Planner>>, UnboundedReceiver<(Timestamp, Due)>) {
    let mut planner = Planner::new("srv1");
    planner.replace(entries, Timestamp::now());
    let planner = Arc::new(Mutex::new(planner));
    let (sender, receiver) = unbounded_channel();
    let trigger = Trigger::start(Arc::clone(&planner), move |decisions| {
        for due in decisions {
            sender.send((Timestamp::now(), due)).unwrap();
        }
    });
    (trigger.await.unwrap(), planner, receiver)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_slots_of_one_second_are_all_handed_on_once_and_in_time() {
    let slot = soon();
    let entries = (0..5000).map(|index| hourly_from(format!("backup/{index:04}"), slot)).collect();
    let (trigger, _planner, mut receiver) = started(entries).await;
    let mut keys = Vec::new();
    for _ in 0..5000 {
        let (at, due) = timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
        assert_eq!((due.kind, due.slot, due.skipped), (Kind::OnTime, slot, 0));
        assert!(at >= slot && at < slot + 10.seconds(), "{at} for {slot}");
        keys.push(due.key);
    }
    assert!(keys.is_sorted(), "the order is that of the keys");
    keys.dedup();
    assert_eq!(keys.len(), 5000);
    trigger.stop().await;
    assert!(receiver.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_polled_while_nothing_is_due() {
    let entries =
        (0..100).map(|index| hourly_from(format!("backup/{index}"), Timestamp::now() + 30.minutes()));
    let (trigger, _planner, _receiver) = started(entries.collect()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(trigger.wakeups() <= 1, "{} wake-ups in 3 s", trigger.wakeups());
    trigger.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_that_come_later_are_noticed_at_once() {
    let (trigger, planner, mut receiver) = started(Vec::new()).await;
    let slot = soon();
    planner.lock().unwrap().replace(vec![hourly_from("backup/new".to_owned(), slot)], Timestamp::now());
    trigger.rearm();
    let (_, due) = timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
    assert_eq!((due.key.as_str(), due.slot), ("backup/new", slot));
    trigger.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_one_after_another_are_all_handed_on() {
    let slot = soon();
    let entries = (0..4_i64).map(|index| hourly_from(format!("backup/{index}"), slot + index.seconds()));
    let (trigger, _planner, mut receiver) = started(entries.collect()).await;
    for index in 0..4_i64 {
        let (_, due) = timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
        assert_eq!((due.key, due.slot), (format!("backup/{index}"), slot + index.seconds()));
    }
    trigger.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_stop_nothing_is_handed_on() {
    let slot = soon();
    let (trigger, planner, mut receiver) = started(vec![hourly_from("backup/b".to_owned(), slot)]).await;
    trigger.stop().await;
    let left = slot.duration_since(Timestamp::now()) + jiff::SignedDuration::from_secs(1);
    tokio::time::sleep(left.try_into().unwrap_or_default()).await;
    assert!(receiver.try_recv().is_err());
    let open = planner.lock().unwrap().due(Timestamp::now());
    assert_eq!(open.len(), 1, "the slot is still there for the next start");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_in_the_receiver_does_not_end_the_tick() {
    let slot = soon();
    let entries = [("backup/a", 0), ("backup/b", 1_i64)];
    let mut planner = Planner::new("srv1");
    let entries = entries.map(|(key, later)| hourly_from(key.to_owned(), slot + later.seconds()));
    planner.replace(entries.into(), Timestamp::now());
    let (sender, mut receiver) = unbounded_channel();
    let trigger = Trigger::start(Arc::new(Mutex::new(planner)), move |decisions| {
        assert!(decisions[0].key != "backup/a", "as this test wants it");
        sender.send(decisions).unwrap();
    });
    let trigger = trigger.await.unwrap();
    let decisions = timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
    assert_eq!(decisions[0].key, "backup/b");
    trigger.stop().await;
}
