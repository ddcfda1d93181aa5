//! A clock that is set while the daemon runs. `faketime` sets it for the daemon alone, so nothing in the kernel tells the
//! daemon of it, as a real setting would (`TFD_TIMER_CANCEL_ON_SET`, which no test may cause: the machine has one clock).
//! A reload makes it look instead.

use jiff::Timestamp;
use rustix::process::Signal;

use super::{House, backup, backup_of, faketime, told};

/// A daemon whose clock a test sets.
struct Clock {
    file: tempfile::NamedTempFile,
}

impl Clock {
    fn at(time: &str) -> Self {
        let clock = Self { file: tempfile::NamedTempFile::new().unwrap() };
        clock.set(time);
        clock
    }

    /// Sets the clock; it goes on from there.
    fn set(&self, time: &str) {
        let wanted: Timestamp = time.parse().unwrap();
        let ahead = wanted.as_millisecond() - Timestamp::now().as_millisecond();
        let text = format!(
            "{}{}.{:03}\n",
            if ahead < 0 { '-' } else { '+' },
            ahead.abs() / 1000,
            ahead.abs() % 1000
        );
        std::fs::write(self.file.path(), text).unwrap();
    }

    async fn house(&self, backups: &str) -> House {
        let file = self.file.path().display().to_string();
        let library = faketime();
        let environment = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("TZ", "UTC"),
        ];
        House::start(backups, &environment).await
    }

    /// Sets the clock of a running daemon, and makes it look.
    fn jump(&self, house: &House, time: &str) {
        self.set(time);
        house.daemon.signal(Signal::HUP);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t08_a_clock_set_a_day_ahead_makes_one_catch_up_not_24() {
    let clock = Clock::at("2026-06-01T10:10:00Z");
    let backups =
        backup("hourly", "schedule = 'hourly'") + &backup_of("daily", "other", "schedule = '02:30'");
    let house = clock.house(&backups).await;
    house.runs_at("hourly", "2026-06-01T11:00:00Z").await;
    clock.jump(&house, "2026-06-02T10:10:00Z");
    assert_eq!(told(&house.ended("hourly", 1).await), [("catch-up", "succeeded")]);
    assert_eq!(told(&house.ended("daily", 1).await), [("catch-up", "succeeded")]);
    house.runs_at("hourly", "2026-06-02T11:00:00Z").await;
    // Looked at again, nothing comes of it.
    house.daemon.call::<_, Vec<String>>("Reload", &()).await.unwrap();
    assert_eq!((house.history("hourly").await.len(), house.history("daily").await.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn t10_a_clock_set_two_seconds_back_at_the_slot_makes_one_run() {
    let clock = Clock::at("2026-06-01T00:29:57Z");
    let witness = backup_of("witness", "other", "schedule = '02:30:01'");
    let house = clock.house(&(backup("nightly", "schedule = '02:30'") + &witness)).await;
    house.until("the run", "nightly", |history| !history.is_empty()).await;
    clock.jump(&house, "2026-06-01T00:29:58Z");
    // When the witness has run the slot before it has come a second time.
    house.ended("witness", 1).await;
    assert_eq!(told(&house.ended("nightly", 1).await), [("schedule", "succeeded")]);
    house.runs_at("nightly", "2026-06-02T00:30:00Z").await;
}

/// The wall clock goes on in a suspend, the monotonic one does not: to a program it is a jump.
#[tokio::test(flavor = "multi_thread")]
async fn t14_after_a_suspend_of_eight_hours_what_was_due_runs_once_and_spread() {
    let clock = Clock::at("2026-06-01T00:10:00Z");
    let spread = "schedule = '02:30'\nrandom_delay = '30m'";
    let names = ["a", "b", "c", "d"];
    let backups: String = names.iter().map(|name| backup(name, spread)).collect();
    let house = clock.house(&backups).await;
    clock.jump(&house, "2026-06-01T08:10:00Z");
    let log = || house.daemon.log();
    super::support::until("all are put off", || {
        log().matches("is put off until 2026-06-01T08:").count() == 4
    });
    let mut runs = Vec::new();
    for name in names {
        runs.push(house.runs_at(name, "2026-06-01T08:").await);
    }
    let within = |run: &String| ("2026-06-01T08:10:00Z".."2026-06-01T08:41:00Z").contains(&run.as_str());
    assert!(runs.iter().all(within), "{runs:?}");
    runs.sort();
    runs.dedup();
    assert_eq!(runs.len(), names.len(), "spread: {runs:?}");
    clock.jump(&house, "2026-06-01T08:42:00Z");
    for name in names {
        assert_eq!(told(&house.ended(name, 1).await), [("catch-up", "succeeded")], "{name}");
        house.runs_at(name, "2026-06-02T0").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_comes_in_a_blackout_is_seen_waiting_and_runs_once_at_its_end() {
    let clock = Clock::at("2026-06-01T08:59:57Z");
    let keys = "schedule = '09..17:00'\nblackout = ['Mon..Fri 08:00-18:00']";
    let house = clock.house(&backup("office", keys)).await;
    house.says("office", "Waiting", "its blackout ends at 2026-06-01T16:00:00Z").await;
    assert_eq!(house.history("office").await.len(), 0);
    clock.jump(&house, "2026-06-01T16:00:01Z");
    assert_eq!(told(&house.ended("office", 1).await), [("schedule", "succeeded")]);
    house.says("office", "Waiting", "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t22_a_run_that_is_cancelled_at_its_slot_is_not_begun_again_before_the_next() {
    let clock = Clock::at("2026-06-01T00:29:58Z");
    let house =
        clock.house(&backup("nightly", "schedule = '02:30'\nretry = { attempts = 5, delay = '1s' }")).await;
    let begun = house.until("a run", "nightly", |history| !history.is_empty()).await;
    let job = house.daemon.proxy(&format!("{}/job/{}", super::support::ROOT, begun[0].id), "Job").await;
    // It may have ended already: then it was not cancelled, and there is nothing to see.
    let cancelled = job.call::<_, _, ()>("Cancel", &()).await.is_ok();
    let ended = house.ended("nightly", 1).await;
    assert!(!cancelled || ["cancelled", "succeeded"].contains(&ended[0].outcome.as_str()), "{ended:?}");
    for time in ["2026-06-01T00:30:30Z", "2026-06-01T12:00:00Z", "2026-06-02T00:29:50Z"] {
        clock.jump(&house, time);
        house.daemon.call::<_, Vec<String>>("Reload", &()).await.unwrap();
        house.runs_at("nightly", "2026-06-02T00:30:00Z").await;
        assert_eq!(house.history("nightly").await.len(), 1, "{time}");
    }
    clock.jump(&house, "2026-06-02T00:30:00Z");
    house.ended("nightly", 2).await;
}

/// Retries know when to end: the next slot makes them pointless.
#[tokio::test(flavor = "multi_thread")]
async fn retries_double_their_pause_and_end_before_the_next_slot() {
    use std::os::unix::fs::PermissionsExt;
    let clock = Clock::at("2026-06-01T00:29:50Z");
    let house = clock.house("").await;
    let program = house.daemon.write(
        "restic",
        "#!/bin/sh\ncase \" $* \" in *' backup '*)\n  echo 'Fatal: unable to save: connection reset by peer' >&2; exit 1 ;;\nesac\n\
         exec restic \"$@\"\n",
    );
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let keys = "schedule = '*:30,31'\nretry = { attempts = 50, delay = '1s' }";
    let config = house.daemon.read("config/holdfast.toml");
    let restic = format!("[daemon]\nrestic = \"{}\"", program.display());
    house
        .daemon
        .write("config/holdfast.toml", &(config.replacen("[daemon]", &restic, 1) + &backup("often", keys)));
    house.daemon.call::<_, Vec<String>>("Reload", &()).await.unwrap();
    clock.jump(&house, "2026-06-01T00:30:00Z");
    let log = || house.daemon.log();
    super::support::until("three attempts", || log().matches("will be tried again in").count() >= 3);
    let pauses = ["tried again in 1s", "tried again in 2s", "tried again in 4s"];
    assert!(pauses.iter().all(|pause| log().contains(pause)), "{}", log());
    // Fifty seconds on, its next pause of eight seconds leads past the next slot.
    clock.set("2026-06-01T00:30:55Z");
    let history = house.ended("often", 1).await;
    assert_eq!(
        (history[0].outcome.as_str(), history[0].cause.as_str()),
        ("failed", "schedule"),
        "{history:?}"
    );
    assert!(history[0].error.contains("connection reset"), "{history:?}");
    assert!(!log().contains("tried again in 8s"), "{}", log());
}
