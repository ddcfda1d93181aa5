//! What MicroShift's backup and auto-recovery can (rows 42 to 53 of the project's research), and how each was tried here:
//! a test, or a case of the booted machine in `tests/system/cases`.

use crate::alone::{holdfast, run};
use crate::shop::Shop;
use crate::support::rows::hold;
use crate::support::{stderr, stdout};

type Row = (u8, &'static str, &'static [&'static str]);

const ROWS: [Row; 12] = [
    (
        42,
        "a backup by command that prints what it made, and writes over nothing",
        &["a_backup_by_command_says_what_it_made_and_a_copy_of_it_goes_over_nothing"],
    ),
    (
        43,
        "sets are named TIME_VERSION, foreign names ignored, only our own forgotten",
        &[
            "a_list_says_of_each_set_how_it_stands_towards_a_recovery",
            "a_directory_of_microshift_becomes_sets_with_their_versions_and_standings",
            "a_pinned_set_is_never_forgotten_and_an_unpinned_one_is",
        ],
    ),
    (
        44,
        "root, service inactive or failed; a set of a failed service is marked",
        &[
            "81-recovery-unit",
            "what_runs_is_left_alone_and_what_systemd_does_not_know_is_told",
            "80-recovery",
        ],
    ),
    (
        45,
        "the newest set of the same version, not the one restored last",
        &[
            "80-recovery",
            "repeated_failures_walk_back_each_set_once_and_then_there_is_only_an_alarm",
            "a_version_that_cannot_be_had_or_is_another_one_leaves_everything_as_it_is",
        ],
    ),
    (
        46,
        "failed data kept or not, used sets known, what is remembered survives",
        &[
            "data_that_failed_is_not_kept_where_the_call_or_the_definition_says_so",
            "what_is_remembered_of_recoveries_may_be_damaged",
            "without_a_daemon_the_set_is_restored_and_the_unit_started_and_the_daemon_knows_of_it",
        ],
    ),
    (
        47,
        "the content is looked at before anything is touched",
        &[
            "a_set_whose_content_is_missing_costs_nothing_and_the_older_one_is_next",
            "a_set_that_cannot_be_read_costs_nothing_and_the_older_one_is_next",
            "a_set_that_is_no_set_of_it_is_found_out_before_anything_is_touched",
        ],
    ),
    (
        48,
        "copied beside, then renamed; what was copied goes when it fails",
        &[
            "killed_in_each_phase_of_a_recovery_the_next_start_brings_the_instance_back",
            "r05_killed_at_ten_moments_of_a_restore_each_tree_is_old_or_new",
            "system_a_disk_that_fills_in_the_middle_costs_neither_data_nor_set",
        ],
    ),
    (
        49,
        "room is looked for before, with a tenth to spare",
        &[
            "system_without_room_for_the_set_and_a_tenth_nothing_is_begun",
            "system_a_volume_that_is_a_mount_point_is_restored_child_by_child_from_another_disk",
        ],
    ),
    (
        50,
        "OnFailure=, a guard while a boot is judged, nothing stopped or started unless asked",
        &[
            "81-recovery-unit",
            "82-greenboot-reboot",
            "without_start_data_is_restored_and_no_unit_touched",
            "a_guard_says_go_on_or_ask_later_and_one_that_fails_stops_it",
        ],
    ),
    (
        51,
        "a backup before a new version starts, sets of vanished versions go",
        &[
            "at_its_start_the_daemon_saves_what_is_of_a_new_version_and_nothing_else",
            "sets_of_versions_that_are_gone_are_forgotten_as_retention_says",
        ],
    ),
    (
        52,
        "a marker asks for a restore at the next start, and what came of it can be printed",
        &[
            "a_marker_asks_for_a_restore_at_the_next_start_and_what_came_of_it_can_be_printed",
            "82-greenboot-reboot",
        ],
    ),
    (
        53,
        "downgrades and skews are refused in clear words",
        &[
            "a_version_that_does_not_fit_is_refused_unless_forced",
            "versions_are_compared_as_the_definition_says",
        ],
    ),
];

/// Prints the table; a test that was renamed or removed fails it.
#[test]
fn every_row_has_a_test_that_bears_it() {
    assert!((42..54).eq(ROWS.iter().map(|row| row.0)));
    hold(ROWS.iter().map(|(number, what, tests)| (format!("{number} {what}"), *tests)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_by_command_says_what_it_made_and_a_copy_of_it_goes_over_nothing() {
    let shop = Shop::open("").await;
    let bus = shop.lab.bus.address.clone();
    for count in 1..3 {
        let done = run(holdfast(&shop, &bus, &["run", "b"])).await;
        assert!(done.status.success(), "{}", stderr(&done));
        let id = crate::lab::text(&shop.lab.sets("shop").await[0], "id");
        assert!(stdout(&done).contains(&id[..8]), "{}", stdout(&done));
        assert_eq!(shop.lab.snapshots_in("repo"), count, "each is a snapshot of its own");
    }
    let target = shop.lab.path("copy");
    let copy = ["restore", "shop", "--target", target.to_str().unwrap()];
    let done = run(holdfast(&shop, &bus, &copy)).await;
    assert!(done.status.success(), "{}{}", stdout(&done), stderr(&done));
    let inside =
        target.join("files").join(shop.lab.path("data-shop").strip_prefix("/").unwrap()).join("file");
    std::fs::write(&inside, "mine\n").unwrap();
    let again = run(holdfast(&shop, &bus, &copy)).await;
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("is not empty"), "{}", stderr(&again));
    assert_eq!(std::fs::read_to_string(&inside).unwrap(), "mine\n");
}

/// Somebody made a snapshot with our tags, and no manifest or another set's in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_set_that_is_no_set_of_it_is_found_out_before_anything_is_touched() {
    for manifest in [None, Some("{}"), Some("{\"format\":1,\"set\":\"another\"}")] {
        let mut shop = Shop::open(", attempts = 9").await;
        shop.save("one").await;
        let snapshots = shop.lab.restic("repo", &["snapshots", "--json"]);
        let snapshots: serde_json::Value = serde_json::from_slice(&snapshots.stdout).unwrap();
        let tags: Vec<String> = snapshots[0]["tags"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tag| {
                let tag = tag.as_str().unwrap();
                if tag.starts_with("set=") {
                    "set=j99990101T000000-forged".to_owned()
                } else {
                    tag.to_owned()
                }
            })
            .collect();
        let tags = tags.join(",");
        let file = shop.lab.write("forged/manifest.json", manifest.unwrap_or("{"), 0o600);
        let what = if manifest.is_some() { file.clone() } else { shop.lab.path("data-shop/file") };
        let forged = ["backup", "--host", "testhost", "--tag", &tags, what.to_str().unwrap()];
        let made = shop.lab.restic("repo", &forged);
        assert!(made.status.success(), "{}", stderr(&made));
        // It is learnt where what was known is lost.
        shop.lab.daemon.kill();
        std::fs::remove_file(shop.lab.path("state/holdfast.db")).unwrap();
        shop.lab.daemon.start_again().await;
        shop.spoil().await;
        shop.back_on("one").await;
        let failed = shop.failed();
        assert_eq!(failed, ["spoilt\n"], "{manifest:?}: the forged one was never put in place");
    }
}
