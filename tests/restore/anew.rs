//! A set as a new instance beside the first one: paths, identity and definition of its own; nothing left when it fails.

use serde_json::{Value, json};
use zbus::wire::Variant;

use super::tree::Tree;
use super::{House, Options, option};
use crate::support::Row;

fn as_second(house: &House, more: &[(&'static str, Variant<'static>)]) -> Options {
    let map = |from: &str, to: &str| format!("{}={}", house.path(from).display(), house.path(to).display());
    let all = vec![
        map("app", "second/app"),
        map("volumes/data", "second/volume"),
        map("outside/dir", "second/outside/dir"),
    ];
    let mut options = option("as", "app2");
    options.extend(option("map", all));
    for (key, value) in more {
        options.extend(option(key, value.try_clone().unwrap()));
    }
    options
}

async fn sets(house: &House, instance: &str) -> Vec<Row> {
    house.daemon.call("ListSnapshots", &(instance,)).await.unwrap()
}

/// Whatever a failed attempt must leave as it was.
fn all_but_the_history(house: &House) -> Tree {
    Tree::of_all(["app", "volumes", "outside", "second", "config"].map(|dir| house.path(dir)))
}

fn plant_module(house: &House) {
    house.daemon.write(
        "app/state/environment",
        "A=1\nMODULE_ID=app1\nMODULE_UUID=f3b25a4c-2f3d-4b3e-9a55-0123456789ab\n",
    );
    house.daemon.write("app/etc/state-include.conf", "state/conf\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_has_all_of_the_set_and_the_first_is_untouched() {
    let house = House::build("restore.keep_previous = \"5h\"").await;
    plant_module(&house);
    house.back_up().await;
    let saved = house.live();
    house.daemon.write("app/state/conf/a", "newer\n");
    let newer = house.live();
    let (outcome, said) = house.restore(&as_second(&house, &[])).await;
    assert_eq!(outcome, "succeeded", "{said}\n{}", house.daemon.log());
    newer.assert_same(&house.live(), "the first instance");
    for (first, second) in [
        ("app/state/one.txt", "second/app/state/one.txt"),
        ("volumes/data/deep", "second/volume/deep"),
        ("outside/dir", "second/outside/dir"),
        ("app/etc", "second/app/etc"),
    ] {
        let (first, second) = (house.path(first), house.path(second));
        Tree::of(&first).moved(&first, &second).assert_same(&Tree::of(&second), "the second");
    }
    assert_eq!(house.daemon.read("second/app/state/conf/a"), "a\n");
    let environment = house.daemon.read("second/app/state/environment");
    assert!(environment.contains("MODULE_ID=app2\n") && environment.contains("A=1\n"), "{environment}");
    assert!(!environment.contains("0123456789ab"), "{environment}");
    let definition = house.daemon.read("config/conf.d/app2.toml");
    assert!(definition.contains("[instance.app2]") && definition.contains("5h"), "{definition}");
    assert!(sets(&house, "app2").await.is_empty(), "it has the first one's identity");
    house.assert_clean();
    // It is defined now: its own sets come and go.
    house.back_up().await;
    assert_eq!((sets(&house, "app1").await.len(), sets(&house, "app2").await.len()), (2, 1));
    std::fs::remove_dir_all(house.path("second/outside/dir")).unwrap();
    let called = house.daemon.call("Restore", &("app2", "", Options::new())).await;
    let job: zbus::wire::OwnedObjectPath = called.unwrap();
    assert_eq!(house.ended(&job).await.0, "succeeded", "{}", house.daemon.log());
    assert_eq!(house.daemon.read("second/outside/dir/z"), "z\n");
    assert!(saved != newer, "the test compares nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_of_a_new_instance_says_what_is_made_and_touches_nothing() {
    let house = House::build("").await;
    house.back_up().await;
    let before = all_but_the_history(&house);
    let options = as_second(&house, &[]);
    let text: String = house.daemon.call("Plan", &("app1", "", &options)).await.unwrap();
    let plan: Value = serde_json::from_str(&text).unwrap();
    before.assert_same(&all_but_the_history(&house), "the plan");
    assert_eq!((&plan["problems"], &plan["replace"]), (&json!([]), &json!([])), "{plan}");
    assert!(plan["define"].as_str().unwrap().ends_with("conf.d/app2.toml"), "{plan}");
    let second = house.path("second/outside/dir").display().to_string();
    assert!(plan["create"].as_array().unwrap().iter().any(|row| row["live"] == json!(second)), "{plan}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_or_is_taken_is_refused_and_nothing_is_left() {
    let house = House::build("[instance.other]\ninclude = [\"@DIR@/outside\"]").await;
    house.back_up().await;
    let before = all_but_the_history(&house);
    let refused = async |options: &Options| -> String {
        let called =
            house.daemon.call::<_, zbus::wire::OwnedObjectPath>("Restore", &("app1", "", options)).await;
        let said = match called {
            Err(refused) => refused.to_string(),
            Ok(job) => {
                let (outcome, said) = house.ended(&job).await;
                assert_eq!(outcome, "failed", "{said}");
                said
            }
        };
        before.assert_same(&all_but_the_history(&house), &said);
        house.assert_clean();
        said
    };
    let said = refused(&option("as", "app2")).await;
    assert!(said.contains("say it with map") && said.contains("outside/dir"), "{said}");
    let mut taken = as_second(&house, &[]);
    taken.extend(option("as", "other"));
    assert!(refused(&taken).await.contains("already defined"));
    let said = refused(&as_second(&house, &[("target", "/nowhere/x".into())])).await;
    assert!(said.contains("leave out as"), "{said}");
    house.daemon.write("state/instances/app2", "f3b25a4c-2f3d-4b3e-9a55-0123456789ab\n");
    let said = refused(&as_second(&house, &[])).await;
    assert!(said.contains("was here before"), "{said}");
    std::fs::remove_file(house.path("state/instances/app2")).unwrap();
    house.daemon.write("second/outside/dir/there", "already\n");
    let before = all_but_the_history(&house);
    let (outcome, said) = house.restore(&as_second(&house, &[])).await;
    assert!(outcome == "failed" && said.contains("is there already"), "{said}");
    before.assert_same(&all_but_the_history(&house), &said);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_health_check_that_fails_or_a_kill_leaves_no_new_instance() {
    let mut house = House::build("restore.health = { command = [\"@DIR@/ask\"], timeout = \"1s\" }").await;
    house.program("ask", "#!/bin/sh\nexit 1\n");
    house.back_up().await;
    let before = all_but_the_history(&house);
    let (outcome, said) = house.restore(&as_second(&house, &[])).await;
    assert_eq!(outcome, "failed", "{said}");
    before.assert_same(&all_but_the_history(&house), &said);
    house.assert_clean();
    house.program("ask", "#!/bin/sh\n: >\"${0%/*}/asked\"\nexec sleep 60\n");
    let asked = house.path("asked");
    house.start_restore(&as_second(&house, &[])).await;
    super::support::until("the health check runs", || asked.exists());
    house.daemon.restart_after_kill().await;
    before.assert_same(&all_but_the_history(&house), "killed in the health check");
    house.assert_clean();
}
