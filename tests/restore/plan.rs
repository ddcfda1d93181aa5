//! A plan says what a restore would do, and touches nothing.

use serde_json::{Value, json};

use super::tree::Tree;
use super::{House, Options, option};

async fn plan(house: &House, options: &Options) -> Value {
    let text: String = house.daemon.call("Plan", &("app1", "", options)).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_names_what_changes_and_touches_nothing() {
    let house = House::build("").await;
    house.back_up().await;
    std::fs::remove_file(house.path("app/state/one.txt")).unwrap();
    house.daemon.write("app/state/conf/extra", "goes\n");
    house.daemon.write("app/state/conf/keep.tmp", "stays\n");
    house.daemon.write("volumes/data/since", "goes\n");
    let all = ["app", "volumes", "outside", "repository", "staging", "config"];
    let look = || Tree::of_all(all.map(|dir| house.path(dir)));
    let before = look();
    let plan = plan(&house, &Options::new()).await;
    before.assert_same(&look(), "a plan touches nothing");
    let paths = |key: &str| -> Vec<String> {
        plan[key].as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(paths("create"), ["state/one.txt"]);
    assert!(paths("replace").contains(&"state/conf".to_owned()), "{plan}");
    assert_eq!(plan["delete"], json!(["state/conf/extra", "volumes/data/since"]));
    assert_eq!(plan["carry_over"], json!(["state/conf/keep.tmp"]));
    assert_eq!((&plan["problems"], &plan["stop"]), (&json!([]), &json!([])), "{plan}");
    assert_eq!(plan["create"][0]["bytes"], 4);
    // And so it comes.
    assert_eq!(house.restore(&Options::new()).await.0, "succeeded");
    assert!(!house.path("app/state/conf/extra").exists() && !house.path("volumes/data/since").exists());
    assert!(house.path("app/state/conf/keep.tmp").exists() && house.path("app/state/one.txt").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_refused_stands_in_the_plan_with_what_to_do() {
    let house = House::build("").await;
    house.back_up().await;
    let missing = plan(&house, &option("include", vec!["state/none".to_owned()])).await;
    assert!(missing["problems"].to_string().contains("holds no state/none"), "{missing}");
    let target = house.path("outside/dir").display().to_string();
    let full = plan(&house, &option("target", target)).await;
    assert!(full["problems"].to_string().contains("not empty"), "{full}");
    std::fs::remove_dir_all(house.path("outside")).unwrap();
    let gone = plan(&house, &Options::new()).await;
    assert!(gone["problems"].to_string().contains("cannot be put back"), "{gone}");
    let (outcome, said) = house.restore(&Options::new()).await;
    assert_eq!(outcome, "failed");
    assert!(said.contains("cannot be put back") && said.contains("was not touched"), "{said}");
    house.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_holds_the_daemons_own_state_is_not_swapped() {
    let house = House::build("").await;
    let whole = "[instance.whole]\ninclude = [\"@DIR@\"]\nexclude = [\"@DIR@/repository\"]\n";
    house.daemon.write("config/conf.d/whole.toml", whole);
    let _: Vec<String> = house.daemon.call("Reload", &()).await.unwrap();
    let job = house.daemon.run_backup("b").await;
    assert_ne!(house.daemon.wait_for_job(&job).await, "failed", "{}", house.daemon.log());
    let text: String = house.daemon.call("Plan", &("whole", "", Options::new())).await.unwrap();
    assert!(text.contains("which holdfastd itself works with"), "{text}");
    let before = house.live();
    let job: zbus::OwnedObjectPath =
        house.daemon.call("Restore", &("whole", "", Options::new())).await.unwrap();
    let (outcome, said) = house.ended(&job).await;
    assert_eq!(outcome, "failed");
    assert!(said.contains("holdfastd itself works with"), "{said}");
    before.assert_same(&house.live(), "untouched");
}
