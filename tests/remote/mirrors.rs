//! What stays here of another machine when nobody names it any more.

use std::time::{Duration, SystemTime};

use crate::far::files;
use crate::host::Host;
use crate::lab::Lab;

/// Makes a mirror look as if it had been used two days ago.
fn age(lab: &Lab, name: &str) {
    let rules = std::fs::File::options().append(true).open(lab.path(&format!("cache/remote/{name}/rules")));
    rules.unwrap().set_modified(SystemTime::now() - Duration::from_secs(2 * 86_400)).unwrap();
}

async fn reload(lab: &Lab) {
    let _: Vec<String> = lab.daemon.call("Reload", &()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_goes_a_day_after_its_last_use_when_no_definition_names_it() {
    let host = Host::start();
    let mut lab = files(&host).start().await;
    lab.good_backup("b").await;
    let there = |lab: &Lab, name: &str| lab.path(&format!("cache/remote/{name}/files")).exists();
    let defined = lab.text("config/holdfast.toml");
    let without = defined.replace("[instance.app]", "[instance.other]").replace("[\"app\"]", "[\"other\"]");
    // Somebody else's directory is never ours to remove, whatever it is called.
    lab.write("cache/remote/stranger/rules", "", 0o600);
    lab.write("cache/remote/stranger/mine", "", 0o600);
    age(&lab, "stranger");
    // Nobody names it, but it was used just now.
    lab.write("config/holdfast.toml", &without, 0o600);
    lab.daemon.restart_after_kill().await;
    assert!(there(&lab, "app"));
    age(&lab, "app");
    // Something cannot be read, and may name it.
    lab.write("config/conf.d/bad.toml", "[instance.app\n", 0o600);
    reload(&lab).await;
    lab.daemon.restart_after_kill().await;
    reload(&lab).await;
    assert!(there(&lab, "app"), "{}", lab.daemon.log());
    // It is named again.
    lab.remove("config/conf.d/bad.toml");
    lab.write("config/holdfast.toml", &defined, 0o600);
    reload(&lab).await;
    lab.daemon.restart_after_kill().await;
    assert!(there(&lab, "app"), "{}", lab.daemon.log());
    lab.write("config/holdfast.toml", &without, 0o600);
    reload(&lab).await;
    lab.until("the mirror is gone", || !lab.path("cache/remote/app").exists()).await;
    lab.until("it is told", || lab.daemon.log().contains("no definition names the instance app")).await;
    assert!(lab.path("cache/remote/stranger/mine").exists());
}
