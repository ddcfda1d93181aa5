//! Several repositories and several instances: dumped once, an outcome for each, retention counted for each, few calls.

use std::fs;

use crate::lab::{SECOND, Setup, text};

fn two_repositories() -> Setup {
    Setup::new()
        .hooked()
        .replace("repositories = [\"local\"]", "repositories = [\"local\", \"second\"]")
        .config(SECOND)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_dump_goes_into_every_repository() {
    let lab = two_repositories().start().await;
    let ended = lab.good_backup("b").await;
    assert_eq!(lab.text("hooks"), "dump begins\ndump ends\ncleanup begins\ncleanup ends\n", "dumped once");
    assert_eq!(ended.units.len(), 2);
    assert_eq!((lab.snapshots_in("repo"), lab.snapshots_in("repo2")), (1, 1));
    let sets = lab.sets("app").await;
    let mut places: Vec<_> = sets.iter().map(|set| text(set, "repository")).collect();
    places.sort();
    assert_eq!(places, ["local", "second"]);
    assert_eq!(text(&sets[0], "set"), text(&sets[1], "set"), "one set in two places");
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_repository_that_is_away_fails_alone() {
    let lab = two_repositories().start().await;
    lab.good_backup("b").await;
    fs::rename(lab.path("repo2"), lab.path("away")).unwrap();
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "failed");
    let of = |name: &str| ended.units.iter().find(|u| u.repository == name).unwrap().clone();
    assert_eq!((&*of("local").outcome, &*of("second").outcome), ("succeeded", "failed"), "{ended:#?}");
    assert!(of("second").error.contains("is not there now"), "{}", of("second").error);
    assert_eq!((lab.snapshots_in("repo"), lab.text("hooks").matches("dump begins").count()), (2, 2));

    // And what is in the other one can be restored meanwhile, whichever was asked first.
    lab.write("app/state/files/one", "ruined\n", 0o640);
    lab.good_restore("app").await;
    assert_eq!(lab.text("app/state/files/one"), "one\n");
    fs::rename(lab.path("away"), lab.path("repo2")).unwrap();
    lab.good_backup("b").await;
    lab.assert_settled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_counts_sets_in_each_repository_and_asks_restic_only_when_something_goes() {
    let lab = two_repositories()
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretention = 2")
        .start()
        .await;
    for run in 1..=4 {
        lab.good_backup("b").await;
        assert_eq!(lab.calls("forget"), 2 * usize::saturating_sub(run, 2), "after run {run}");
    }
    assert_eq!((lab.snapshots_in("repo"), lab.snapshots_in("repo2")), (2, 2));
    assert_eq!(lab.sets("app").await.len(), 4, "two in each");
    lab.check("repo");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_that_fails_fails_the_job_and_keeps_the_sets() {
    let lab = Setup::new()
        .hooked()
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretention = 1")
        .start()
        .await;
    lab.good_backup("b").await;
    lab.on("forget", "echo 'Fatal: something odd' >&2; exit 1");
    let ended = lab.backup("b").await;
    assert_eq!(ended.outcome, "failed", "{ended:#?}");
    for word in ["retention in repository local failed", "old sets were kept", "something odd"] {
        assert!(ended.error.contains(word), "{word}: {}", ended.error);
    }
    assert_eq!(ended.units[0].outcome, "succeeded", "the set stands");
    assert_eq!(lab.sets("app").await.len(), 2);
    lab.remove("on-forget");
    lab.good_backup("b").await;
    assert_eq!(lab.snapshots_in("repo"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_backup_forgets_nothing() {
    let lab = Setup::new()
        .hooked()
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretention = 1")
        .start()
        .await;
    lab.good_backup("b").await;
    lab.on("dump", "exit 1");
    for _ in 0..2 {
        assert_eq!(lab.backup("b").await.outcome, "failed");
    }
    assert_eq!((lab.calls("forget"), lab.snapshots_in("repo")), (0, 1), "the last good set stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_only_repository_is_never_asked_to_forget() {
    let lab = Setup::new()
        .hooked()
        .replace("instances = [\"app\"]", "instances = [\"app\"]\nretention = 1")
        .replace("prune = false\ncheck = false", "append_only = true\ncheck = false")
        .start()
        .await;
    for _ in 0..3 {
        lab.good_backup("b").await;
    }
    assert_eq!((lab.calls("forget"), lab.snapshots_in("repo")), (0, 3));
    let refused: zbus::Result<zbus::wire::OwnedObjectPath> = lab.daemon.call("Prune", &("local",)).await;
    let (name, said) = crate::support::error_of(refused).unwrap();
    assert!(name.ends_with("InvalidArgument") && said.contains("append-only"), "{name}: {said}");
}

/// Several plain instances in one shared repository.
fn instances(count: usize, keys: &str) -> Setup {
    let setup = Setup::new();
    let mut text = format!("[backup.b]\nrepositories = [\"local\"]\ninstances = [\"*\"]\n{keys}\n");
    for number in 0..count {
        setup.write(&format!("data{number}/file"), &format!("{number}\n"), 0o600);
        text.push_str(&format!("[instance.i{number}]\ninclude = [\"@DIR@/data{number}\"]\n"));
    }
    setup.config(&text)
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_in_a_shared_repository_is_counted_per_instance() {
    let lab = instances(2, "retention = 2").start().await;
    for _ in 0..3 {
        lab.good_backup("b").await;
    }
    assert_eq!((lab.sets("i0").await.len(), lab.sets("i1").await.len(), lab.snapshots_in("repo")), (2, 2, 4));
    // A narrowed run adds to one only.
    let mut options = std::collections::HashMap::new();
    options.insert("instances", zbus::wire::Variant::from(vec!["i0"]));
    let job: zbus::wire::OwnedObjectPath = lab.daemon.call("RunBackup", &("b", options)).await.unwrap();
    assert_eq!(lab.ended(&job).await.outcome, "succeeded");
    assert_eq!((lab.sets("i0").await.len(), lab.sets("i1").await.len(), lab.snapshots_in("repo")), (2, 2, 4));
    let id = text(&lab.sets("i1").await[0], "id");
    lab.write("data1/file", "ruined", 0o600);
    assert_eq!(lab.restore("i1", &id, &[]).await.outcome, "succeeded");
    assert_eq!(lab.text("data1/file"), "1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_over_many_instances_calls_restic_once_for_each_and_twice_more_at_most() {
    let lab = instances(6, "retention = 1").start().await;
    lab.good_backup("b").await;
    let before = lab.calls("");
    lab.good_backup("b").await;
    let calls = lab.calls("") - before;
    assert!(calls <= 6 + 2, "{calls} calls:\n{}", lab.text("calls"));
    assert_eq!((lab.calls("backup"), lab.calls("forget"), lab.snapshots_in("repo")), (12, 1, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_at_once_in_one_repository_meet_no_lock() {
    let mut setup = Setup::new();
    for number in 0..8 {
        setup.write(&format!("data{number}/file"), &format!("{number}\n"), 0o600);
        setup = setup.config(&format!(
            "[backup.b{number}]\nrepositories = [\"local\"]\ninstances = [\"i{number}\"]\nretention = 1\n\
             [instance.i{number}]\ninclude = [\"@DIR@/data{number}\"]\n"
        ));
    }
    let lab = setup.start().await;
    for _ in 0..3 {
        let mut jobs = Vec::new();
        for number in 0..8 {
            jobs.push(lab.daemon.run_backup(&format!("b{number}")).await);
        }
        jobs.push(lab.daemon.call("Check", &("local", crate::support::Row::new())).await.unwrap());
        jobs.push(lab.daemon.call("Prune", &("local",)).await.unwrap());
        for job in jobs {
            let ended = lab.ended(&job).await;
            assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
        }
    }
    assert_eq!(
        (lab.calls("forget"), lab.calls("unlock"), lab.calls("list")),
        (16, 0, 0),
        "nobody met a lock"
    );
    assert_eq!(lab.snapshots_in("repo"), 8);
    lab.check("repo");
    lab.assert_settled().await;
}
