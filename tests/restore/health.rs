//! What is restored must work, else the old data comes back.

use super::{House, Options, option};

async fn fails_and_puts_back(instance: &str, prepare: impl Fn(&House), reason: &str) {
    let house = House::build(instance).await;
    prepare(&house);
    house.back_up().await;
    house.daemon.write("app/state/conf/a", "newer\n");
    house.daemon.write("volumes/data/since", "new\n");
    let before = house.live();
    let (outcome, said) = house.restore(&Options::new()).await;
    assert_eq!(outcome, "failed", "{said}");
    assert!(said.contains(reason), "{reason:?} is not in: {said}");
    assert!(said.contains("the old data is back in place"), "{said}");
    before.without("volumes/data").assert_same(&house.live().without("volumes/data"), "the old data");
    assert_eq!(house.daemon.read("volumes/data/since"), "new\n");
    assert_eq!(house.annexes(), Vec::<std::path::PathBuf>::new());
    house.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_that_fails_brings_the_old_data_back() {
    let health = "restore.health = { command = [\"bin/healthy\"], timeout = \"1s\" }";
    let sick = |house: &House| drop(house.program("app/bin/healthy", "#!/bin/sh\necho sick >&2\nexit 1\n"));
    fails_and_puts_back(health, sick, "sick").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_that_hangs_is_ended_at_its_time() {
    let health = "restore.health = { command = [\"bin/healthy\"], timeout = \"1s\" }";
    let hangs = |house: &House| drop(house.program("app/bin/healthy", "#!/bin/sh\nexec sleep 1000\n"));
    let start = std::time::Instant::now();
    fails_and_puts_back(health, hangs, "health check").await;
    assert!(start.elapsed() < std::time::Duration::from_secs(50));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_may_take_its_time_to_become_healthy() {
    let house = House::build("restore.health = { command = [\"bin/healthy\"], timeout = \"30s\" }").await;
    let script =
        "#!/bin/sh\n[ -e \"$AGENT_INSTALL_DIR/asked\" ] && exit 0\n: >\"$AGENT_INSTALL_DIR/asked\"\nexit 1\n";
    house.program("app/bin/healthy", script);
    house.back_up().await;
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded", "{}", house.daemon.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_step_that_fails_after_the_files_brings_the_old_data_back() {
    let step =
        |house: &House| drop(house.program("app/actions/restore-module/20check", "#!/bin/sh\nexit 3\n"));
    fails_and_puts_back("", step, "exited with 3").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_does_not_fit_is_refused_unless_forced() {
    let house = House::build("version = { command = [\"bin/version\"], match = \"major\" }").await;
    house.program("app/bin/version", "#!/bin/sh\necho 15.4\n");
    house.back_up().await;
    house.program("app/bin/version", "#!/bin/sh\necho 16.0\n");
    let before = house.live();
    let (outcome, said) = house.restore(&Options::new()).await;
    assert_eq!(outcome, "failed");
    assert!(said.contains("15.4") && said.contains("16.0") && said.contains("force_version"), "{said}");
    before.assert_same(&house.live(), "untouched");
    let text: String = house.daemon.call("Plan", &("app1", "", Options::new())).await.unwrap();
    assert!(text.contains("\"fits\":false") && text.contains("version.match"), "{text}");
    assert_eq!(house.restore(&option("force_version", true)).await.0, "succeeded");
}
