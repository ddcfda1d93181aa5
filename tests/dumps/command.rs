//! Programs of a definition: one prints the dump, one takes it back.

use super::*;

fn keys(dump: &str, restore: &str) -> String {
    format!("source = \"command\"\nname = \"index\"\ncommand = [\"sh\", \"-c\", {dump:?}]\n{restore}\n")
}

#[tokio::test]
async fn what_a_program_prints_is_what_the_other_reads_and_a_rollback_gives_back_what_was() {
    let restore = "restore = [\"sh\", \"-c\", \"cat >@DIR@/index\"]";
    let setup = setup("", &[keys("cat @DIR@/index", restore)]);
    setup.write("index", "one\n", 0o644);
    let lab = setup.start().await;
    lab.good_backup("b").await;
    lab.write("index", "two\n", 0o644);
    lab.good_restore("app").await;
    assert_eq!(lab.text("index"), "one\n");
    roll_back(&lab).await;
    assert_eq!(lab.text("index"), "two\n");
    lab.assert_settled().await;
}

#[tokio::test]
async fn a_program_that_fails_or_prints_nothing_takes_no_snapshot_and_without_a_way_back_it_is_said() {
    let setup = setup("", &[keys(". @DIR@/script", "")]);
    setup.write("script", "echo half; exit 3\n", 0o644);
    let lab = setup.start().await;
    refused(&lab, &lab.backup("b").await, "exited with 3");
    lab.write("script", ":\n", 0o644);
    refused(&lab, &lab.backup("b").await, "is empty");
    lab.write("script", "echo whole\n", 0o644);
    lab.good_backup("b").await;
    let ended = lab.restore("app", "", &[]).await;
    assert_eq!(ended.outcome, "warning", "{ended:#?}");
    assert!(ended.units[0].error.contains("names no `restore` program"), "{ended:#?}");
}

#[tokio::test]
async fn killed_while_the_program_reads_what_was_before_is_given_back_after_the_next_start() {
    let restore = "restore = [\"sh\", \"-c\", \"cat >@DIR@/index; . @DIR@/then\"]";
    let setup = setup("", &[keys("cat @DIR@/index", restore)]);
    setup.write("index", "one\n", 0o644);
    setup.write("then", ": >@DIR@/at-half; exec sleep 60\n", 0o644);
    let mut lab = setup.start().await;
    lab.good_backup("b").await;
    lab.write("index", "two\n", 0o644);
    lab.start_restore("app", "", &[]).await;
    lab.reached("half").await;
    assert_eq!(lab.text("index"), "one\n", "the program has taken the dump already");
    lab.write("then", ":\n", 0o644);
    lab.daemon.restart_after_kill().await;
    assert_eq!(lab.text("index"), "two\n", "{}", lab.daemon.log());
    lab.assert_settled().await;
}
