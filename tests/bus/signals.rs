//! What happens is told: to subscribers of signals, in order, not too often.

use std::time::Duration;

use crate::support::{Bus, ROOT, Row};

#[tokio::test]
async fn a_job_is_told_from_its_object_to_its_end_in_order() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let mut signals = daemon.signals().await;
    let job = daemon.run_backup("mybackup").await;
    let removed = signals.wait("JobRemoved", |s| s.member == "JobRemoved").await;
    assert_eq!(removed.body::<(zbus::wire::OwnedObjectPath, String)>(), (job.clone(), "succeeded".into()));

    let place = |what: &str, wanted: &dyn Fn(&crate::support::signals::Signal) -> bool| {
        signals.seen.iter().position(wanted).unwrap_or_else(|| panic!("{what}: {:#?}", signals.seen))
    };
    let added = place("InterfacesAdded", &|s| s.member == "InterfacesAdded");
    let new = place("JobNew", &|s| s.member == "JobNew");
    let outcome = place("Outcome", &|s| s.path == job.as_str() && s.changes("Outcome"));
    let end = place("JobRemoved", &|s| s.member == "JobRemoved");
    assert!(added < new && new < outcome && outcome < end, "{added} {new} {outcome} {end}");
}

#[tokio::test]
async fn what_a_job_changed_is_told_before_its_end() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let mut signals = daemon.signals().await;
    daemon.run_backup("mybackup").await;
    signals.wait("JobRemoved", |s| s.member == "JobRemoved").await;
    let changed = |path: String, property: &str| {
        signals.seen.iter().find(|s| s.path == path && s.changes(property)).and_then(|s| s.changed())
    };
    let backup = changed(format!("{ROOT}/backup/mybackup"), "LastRun").expect("LastRun was told");
    assert!(backup.contains_key("LastOutcome"), "{backup:?}");
    assert!(changed(format!("{ROOT}/instance/app_2d1"), "LastSnapshot").is_some(), "{:#?}", signals.seen);
}

#[tokio::test]
async fn active_jobs_go_up_and_down() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let mut signals = daemon.signals().await;
    daemon.run_backup("mybackup").await;
    let jobs = |s: &crate::support::signals::Signal| {
        let changed = s.changed().filter(|_| s.path == ROOT)?;
        u32::try_from(changed.get("ActiveJobs")?.try_clone().unwrap()).ok()
    };
    signals.wait("ActiveJobs 1", |s| jobs(s) == Some(1)).await;
    signals.wait("ActiveJobs 0", |s| jobs(s) == Some(0)).await;
}

#[tokio::test]
async fn progress_is_told_at_most_twice_a_second() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    // Enough that restic reports more than once; incompressible, so that it takes a while.
    let data: Vec<u8> = {
        let mut seed = 1_u64;
        let mut next = move || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        };
        (0..64 << 20).map(|_| next()).collect()
    };
    std::fs::write(daemon.dir.path().join("data/big"), data).unwrap();
    let mut signals = daemon.signals().await;
    let job = daemon.run_backup("mybackup").await;
    signals.wait("JobRemoved", |s| s.member == "JobRemoved").await;
    let numbers: Vec<_> = signals
        .seen
        .iter()
        .filter(|s| {
            s.path == job.as_str() && s.changes("BytesDone") && !s.changes("Phase") && !s.changes("State")
        })
        .filter(|s| !s.changes("Outcome") && !s.changes("Waiting") && !s.changes("Error"))
        .collect();
    for pair in numbers.windows(2) {
        // Looked at a little late or early: the bus lies between.
        assert!(pair[1].at - pair[0].at > Duration::from_millis(300), "{numbers:#?}");
    }
}

#[tokio::test]
async fn pausing_is_told_and_shown() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let mut signals = daemon.signals().await;
    let () = daemon.call("Pause", &(3600_u64,)).await.unwrap();
    assert!(daemon.property::<bool>(ROOT, "Manager", "Paused").await);
    assert!(daemon.property::<u64>(ROOT, "Manager", "PausedUntil").await > 0);
    signals.wait("Paused", |s| s.path == ROOT && s.changes("Paused")).await;
    let () = daemon.call("Resume", &()).await.unwrap();
    assert!(!daemon.property::<bool>(ROOT, "Manager", "Paused").await);
}

#[tokio::test]
async fn a_lost_definition_takes_its_object_with_it() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let mut signals = daemon.signals().await;
    let text = daemon.read("config/holdfast.toml");
    let (kept, _) = text.split_once("[backup.off]").unwrap();
    let (_, instance) = text.split_once("[instance.").unwrap();
    daemon.write("config/holdfast.toml", &format!("{kept}[instance.{instance}"));
    let diagnostics: Vec<String> = daemon.call("Reload", &()).await.unwrap();
    assert_eq!(diagnostics, [""; 0]);
    let removed = signals.wait("InterfacesRemoved", |s| s.member == "InterfacesRemoved").await;
    let (path, interfaces): (zbus::wire::OwnedObjectPath, Vec<String>) = removed.body();
    assert_eq!(path.as_str(), format!("{ROOT}/backup/off"));
    assert_eq!(interfaces, ["org.holdfast.Backup1.Backup"]);
    signals.wait("DefinitionsChanged", |s| s.member == "DefinitionsChanged").await;
    let gone: zbus::Result<String> = daemon.proxy(path.as_str(), "Backup").await.get_property("Name").await;
    assert!(gone.is_err());
}

#[tokio::test]
async fn finished_jobs_stay_readable() {
    let bus = Bus::start();
    let daemon = crate::daemon(&bus).await;
    let job = daemon.run_backup("mybackup").await;
    daemon.wait_for_job(&job).await;
    let units: Vec<Row> = daemon.property(&job, "Job", "Units").await;
    for key in ["instance", "repository", "phase", "outcome", "snapshot", "error"] {
        assert!(units[0].contains_key(key), "{units:?}");
    }
    assert!(
        daemon.property::<u64>(&job, "Job", "Finished").await
            >= daemon.property(&job, "Job", "Started").await
    );
}
