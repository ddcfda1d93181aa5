//! Floods: of calls, of questions, of connections, of reloads. Others are served meanwhile.

use std::time::{Duration, Instant};

use crate::hostile::alive;
use crate::support::{Bus, NAME, ROOT, Row};

/// B29: many calls at once, none answered yet (the bus lets 128 of one connection wait); another caller is served meanwhile.
#[tokio::test]
async fn a_flood_of_one_caller_leaves_the_others_served() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let flood = bus.connect().await;
    for _ in 0..20_000 {
        let call = zbus::Message::method_call(ROOT, "ListJobs")
            .destination(NAME)
            .interface("org.holdfast.Backup1.Manager")
            .build(&(Row::new(),))
            .unwrap();
        if flood.send(&call).await.is_err() {
            break;
        }
    }
    let start = Instant::now();
    alive(&daemon).await;
    // A second on an idle machine; tests share theirs.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// B36: all objects of many definitions, asked for again and again: others are served meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_questions_for_everything_leaves_the_others_served() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let many: String = (0..300).map(|n| format!("[instance.i{n}]\ninclude = [\"@DIR@/data\"]\n")).collect();
    daemon.write("config/conf.d/many.toml", &many);
    let _: Vec<String> = daemon.call("Reload", &()).await.unwrap();
    let flood = bus.connect().await;
    let before = resident(daemon.pid());
    for _ in 0..100 {
        let call = zbus::Message::method_call(ROOT, "GetManagedObjects")
            .destination(NAME)
            .interface("org.freedesktop.DBus.ObjectManager")
            .build(&())
            .unwrap();
        flood.send(&call).await.unwrap();
    }
    let start = Instant::now();
    alive(&daemon).await;
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(
        resident(daemon.pid()) < before + 150_000,
        "{before} kB before, {} kB after",
        resident(daemon.pid())
    );
}

/// B30: many subscribers, almost as many as the bus lets one user have; and of match rules no more than it lets one have.
#[tokio::test]
async fn b30_many_connections_and_match_rules_are_no_burden() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let before = resident(daemon.pid());
    let mut subscribers = Vec::new();
    for _ in 0..240 {
        let connection = bus.connect().await;
        let proxy = zbus::fdo::DBusProxy::new(&connection).await.unwrap();
        let rule = zbus::MatchRule::builder().sender(NAME).build().unwrap();
        proxy.add_match_rule(rule).await.unwrap();
        subscribers.push(connection);
    }
    let greedy = zbus::fdo::DBusProxy::new(&subscribers[0]).await.unwrap();
    let mut answers = Vec::new();
    for n in 0..600 {
        let rule = zbus::MatchRule::builder().sender(NAME).arg0ns(format!("a.b{n}")).build().unwrap();
        answers.push(greedy.add_match_rule(rule).await);
    }
    let refused = answers.iter().filter(|a| matches!(a, Err(zbus::fdo::Error::LimitsExceeded(_)))).count();
    assert!(refused > 50, "{refused} of {} rules refused: {:?}", answers.len(), answers.last());
    let job = daemon.run_backup("mybackup").await;
    assert_eq!(daemon.wait_for_job(&job).await, "succeeded");
    assert!(
        resident(daemon.pid()) < before + 30_000,
        "{before} kB before, {} kB after",
        resident(daemon.pid())
    );
}

/// B45: reloads in a burst, as many as the bus lets one connection have open.
#[tokio::test]
async fn a_burst_of_reloads_is_answered_and_coalesced() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let manager = daemon.proxy(ROOT, "Manager").await;
    let calls: Vec<_> = (0..100).map(|_| manager.call::<_, _, Vec<String>>("Reload", &())).collect();
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.unwrap(), [""; 0]);
    }
    alive(&daemon).await;
}

/// Resident memory of a process, in kB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
