//! Each way to restore, and each thing that can go wrong with it: where it was tried, and what was left.

use crate::support::rows::hold;

type Row = (&'static str, &'static [&'static str]);

const WAYS: [Row; 16] = [
    ("latest, in place, with rollback", &["a_rollback_puts_everything_back_and_another_one_takes_it_back"]),
    ("a snapshot, before a time, a list", &["snapshots_that_are_unknown_or_foreign_are_refused_with_advice"]),
    ("a single file, some includes", &["a_single_file_comes_back_and_nothing_else_changes"]),
    (
        "into a directory",
        &[
            "r08_targets_that_are_no_new_directory_are_refused",
            "everything_that_a_file_has_comes_back_with_restic_0_19",
        ],
    ),
    (
        "as a new instance",
        &[
            "a_new_instance_has_all_of_the_set_and_the_first_is_untouched",
            "a_second_instance_has_databases_of_its_own_and_those_of_the_first_are_never_touched",
        ],
    ),
    ("a plan", &["a_plan_names_what_changes_and_touches_nothing"]),
    (
        "of another machine",
        &[
            "an_instance_of_another_host_is_listed_and_brought_back_from_a_shared_repository",
            "an_instance_of_another_host_is_listed_and_brought_back_by_the_catalogue",
        ],
    ),
    ("only what differs is fetched", &["what_did_not_change_is_not_fetched_and_what_only_looks_the_same_is"]),
    ("a large set in parts", &["a_large_set_comes_in_parts_with_restic_0_14"]),
    ("progress and time left", &["how_much_is_to_come_is_known_before_anything_came"]),
    (
        "owners, modes, times, attributes, holes, links",
        &["everything_that_a_file_has_comes_back_with_restic_0_19"],
    ),
    ("SQLite", &["a_file_in_use_is_dumped_whole_restored_and_rolled_back_with_what_lies_beside_it"]),
    (
        "PostgreSQL",
        &["databases_are_restored_into_their_own_server_with_applications_connected_and_rolled_back"],
    ),
    (
        "an edited dump",
        &["an_edited_dump_is_loaded_instead_of_the_saved_one_and_what_is_none_changes_nothing"],
    ),
    (
        "a user that is missing",
        &["system_a_user_that_is_missing_is_made_with_its_number_when_asked_and_goes_when_the_restore_fails"],
    ),
    (
        "a mount point",
        &["system_a_volume_that_is_a_mount_point_is_restored_child_by_child_from_another_disk"],
    ),
];

/// After each of these the live data and the services are as they were.
const FAULTS: [Row; 23] = [
    (
        "an ambiguous prefix",
        &[
            "a_prefix_that_could_mean_any_snapshot_is_refused",
            "a_prefix_that_means_two_snapshots_is_refused_until_more_of_it_is_said",
        ],
    ),
    ("another instance's snapshot", &["a_snapshot_of_another_instance_is_refused_unless_it_is_forced"]),
    ("a corrupted pack", &["a_damaged_pack_is_noticed_before_anything_live_changes"]),
    (
        "a truncated dump",
        &["a_damaged_dump_is_refused_before_anything_lives_and_a_failed_restore_leaves_the_old_data"],
    ),
    (
        "a missing password",
        &["without_its_password_a_repository_gives_nothing_and_says_which_file_is_missing"],
    ),
    ("no space", &["system_r07_no_room_for_staging_or_beside_the_live_data_leaves_that_as_it_is"]),
    (
        "a read-only file system",
        &[
            "system_a_target_on_a_disk_that_is_read_only_is_refused",
            "system_a_file_system_that_is_mounted_read_only_is_refused",
        ],
    ),
    ("a target that is a file", &["r08_targets_that_are_no_new_directory_are_refused"]),
    (
        "a service that does not stop",
        &["a_restore_whose_service_does_not_stop_touches_nothing_and_all_run_as_before"],
    ),
    ("a service that does not come up", &["a_restore_whose_service_does_not_run_on_the_new_data_is_undone"]),
    (
        "the n-th call of a manager fails",
        &["whichever_call_of_a_restore_fails_the_services_run_and_the_data_is_whole"],
    ),
    (
        "a health check that fails or hangs",
        &[
            "a_health_check_that_fails_brings_the_old_data_back",
            "a_health_check_that_hangs_is_ended_at_its_time",
        ],
    ),
    ("a restore step that fails", &["a_restore_step_that_fails_after_the_files_brings_the_old_data_back"]),
    ("a version that does not fit", &["a_version_that_does_not_fit_is_refused_unless_forced"]),
    ("the n-th rename fails, for each n", &["whichever_rename_fails_the_live_data_is_whole"]),
    ("the n-th new directory fails", &["whichever_new_directory_cannot_be_made_the_live_data_is_whole"]),
    ("the n-th sync fails", &["whichever_sync_fails_the_live_data_is_whole"]),
    (
        "killed",
        &[
            "killed_in_each_phase_the_old_data_lives_again_and_the_next_start_says_so",
            "r05_killed_at_ten_moments_of_a_restore_each_tree_is_old_or_new",
            "soak_r05_killed_at_two_hundred_moments",
        ],
    ),
    ("links in the live tree", &["r01_to_r03_links_in_the_live_tree_lead_nowhere_with_restic_0_14"]),
    ("a parent swapped in a loop", &["r04_a_parent_that_is_swapped_in_a_loop_leads_nowhere"]),
    (
        "set-uid bits and devices",
        &[
            "set_uid_bits_come_back_only_when_that_is_said",
            "system_device_files_come_back_only_when_that_is_said",
        ],
    ),
    ("old data that cannot be put back yet", &["old_data_that_cannot_be_put_back_yet_is_not_removed"]),
    ("what is remembered of a set is wrong", &["what_was_remembered_of_a_set_is_compared_with_what_came"]),
];

#[test]
fn every_way_and_every_fault_has_a_test_that_bears_it() {
    hold(WAYS.iter().chain(&FAULTS).map(|(what, tests)| ((*what).to_owned(), *tests)));
}
