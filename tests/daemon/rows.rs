//! Each manager of services, and what was done to it; afterwards its services were as before, and no bad set was there.

use crate::support::rows::hold;

type Row = (&'static str, [&'static [&'static str]; 3]);

const CASES: [&str; 3] =
    ["stopped and as before", "each of its calls fails in turn", "killed, rebooted, cut off"];

const MANAGERS: [Row; 9] = [
    (
        "systemd",
        [
            &["32-services"],
            &[
                "whichever_call_of_a_backup_fails_the_services_run_and_no_bad_set_exists",
                "whichever_call_of_a_restore_fails_the_services_run_and_the_data_is_whole",
            ],
            &["32-services", "90-reboot", "91-power-loss-reboot"],
        ],
    ),
    (
        "systemd over ssh",
        [
            &[
                "33-services-over-ssh",
                "a_unit_is_stopped_with_what_would_start_it_and_only_what_ran_is_started",
            ],
            &["whichever_call_of_systemctl_fails_the_units_run_again"],
            &["units_that_were_stopped_when_the_daemon_was_killed_are_started"],
        ],
    ),
    (
        "monit",
        [
            &["processes_of_monit_are_stopped_for_a_backup_and_as_before_whatever_happens"],
            &[
                "whichever_call_of_monit_fails_in_a_backup_its_processes_are_as_before",
                "whichever_call_of_monit_fails_in_a_restore_all_is_as_before_or_restored",
            ],
            &["killed_in_any_phase_all_runs_after_the_next_start"],
        ],
    ),
    (
        "monit over ssh",
        [
            &["a_director_is_stopped_dumped_mirrored_and_started_before_restic_reads"],
            &["a_connection_lost_at_any_call_ends_with_all_services_started_and_no_half_set"],
            &[
                "killed_at_every_phase_of_a_backup_services_run_again_and_no_set_is_left",
                "killed_at_every_phase_of_a_restore_all_trees_are_old_or_all_are_new",
                "a_machine_that_is_gone_after_a_kill_gets_its_services_back_when_it_answers",
            ],
        ],
    ),
    (
        "docker",
        [
            &["system_containers_of_docker_are_as_before_whatever_happens"],
            &[
                "whichever_call_of_docker_fails_in_a_backup_its_containers_are_as_before",
                "whichever_call_of_docker_fails_in_a_restore_all_is_as_before_or_restored",
            ],
            &["system_containers_of_docker_are_as_before_whatever_happens"],
        ],
    ),
    (
        "podman",
        [
            &[
                "system_containers_of_podman_are_as_before_whatever_happens",
                "system_a_podman_without_root_is_stopped_saved_and_restored_as_its_user",
            ],
            &["whichever_call_of_podman_fails_in_a_backup_its_containers_are_as_before"],
            &["system_containers_of_podman_are_as_before_whatever_happens"],
        ],
    ),
    (
        "compose",
        [
            &["system_a_stack_is_found_by_its_labels_backed_up_and_restored"],
            &[
                "whichever_call_of_compose_fails_in_a_backup_its_containers_are_as_before",
                "whichever_call_of_compose_fails_in_a_restore_all_is_as_before_or_restored",
            ],
            &["system_a_stack_is_found_by_its_labels_backed_up_and_restored"],
        ],
    ),
    (
        "containers over ssh",
        [
            &[
                "containers_of_every_manager_are_stopped_and_as_before_afterwards",
                "system_a_docker_over_ssh_has_its_services_volumes_and_dumps_saved_and_restored",
                "system_a_podman_over_ssh_has_its_services_volumes_and_dumps_saved_and_restored",
            ],
            &["whichever_call_of_docker_fails_the_containers_of_a_project_are_as_before"],
            &["a_stop_that_goes_on_when_the_daemon_is_killed_does_not_come_late"],
        ],
    ),
    (
        "command",
        [
            &["services_are_stopped_in_order_for_the_snapshot_and_run_again_before_retention"],
            &["whichever_call_of_a_backup_fails_the_services_run_and_no_bad_set_exists"],
            &[
                "killed_while_services_are_stopped_they_run_after_the_next_start",
                "killed_in_a_restore_services_are_stopped_before_the_old_data_is_put_back_and_run_then",
                "cancelled_or_stopped_with_services_down_they_run_again",
            ],
        ],
    ),
];

/// What is the same for all of them.
const FAULTS: [(&str, &[&str]); 18] = [
    ("stopped by hand", &["a_service_that_was_stopped_by_hand_stays_stopped", "32-services"]),
    ("sick, and health required", &["a_sick_service_is_not_backed_up_where_health_is_required"]),
    ("does not start", &["a_service_that_does_not_start_raises_an_alarm_and_is_started_as_soon_as_it_can"]),
    ("starts and dies", &["a_service_that_starts_and_dies_is_not_taken_for_running"]),
    (
        "ignores its stop",
        &["a_service_that_ignores_its_stop_fails_the_backup_and_is_started_when_it_ends_after_all"],
    ),
    ("masked", &["32-services", "33-services-over-ssh"]),
    ("two jobs, one service", &["two_jobs_that_need_the_same_service_stop_it_once_and_the_last_starts_it"]),
    ("a database alone for its dump", &["only_the_database_runs_for_its_dump_and_all_runs_afterwards"]),
    (
        "a volume behind its engine",
        &[
            "system_a_volume_that_only_docker_reaches_is_saved_restored_and_rolled_back",
            "system_a_volume_that_only_podman_reaches_is_saved_restored_and_rolled_back",
            "system_a_stream_of_a_volume_that_is_cut_off_makes_no_set",
            "system_an_engine_that_fails_at_any_call_makes_no_set_and_changes_no_volume",
            "system_a_volume_that_takes_only_a_part_is_told_and_gets_its_old_data_back",
        ],
    ),
    ("volumes made anew", &["system_volumes_of_docker_come_back_with_owners_and_labels"]),
    (
        "volumes on another machine",
        &[
            "volumes_and_what_a_container_dumps_come_back_and_a_rollback_takes_that_back",
            "a_connection_lost_at_any_call_of_a_backup_leaves_no_half_set_and_of_a_restore_no_half_data",
            "killed_at_any_phase_of_a_restore_volumes_and_container_are_as_before",
            "what_cannot_be_mirrored_or_does_not_run_is_told_and_no_set_is_made",
        ],
    ),
    (
        "a server in a container there",
        &["a_server_in_a_container_there_is_dumped_and_restored_with_what_the_container_was_started_with"],
    ),
    (
        "a new instance there",
        &[
            "a_new_instance_there_has_all_of_the_set_and_the_first_is_untouched",
            "a_connection_lost_at_any_call_leaves_all_of_the_new_instance_or_nothing",
            "killed_at_any_phase_all_of_the_new_instance_stands_or_nothing",
        ],
    ),
    (
        "restore steps there",
        &[
            "steps_run_there_in_order_around_the_data_and_read_the_request",
            "a_step_that_fails_is_lost_or_cannot_run_leaves_the_old_data",
        ],
    ),
    ("another host key", &["another_host_key_is_not_taken_silently"]),
    ("sudo asks for a password", &["a_sudo_that_asks_is_told_and_one_that_does_not_is_used"]),
    (
        "the cache's disk is full",
        &["system_a_mirror_that_does_not_fit_leaves_services_running_and_the_disk_named"],
    ),
    (
        "a director comes back whole",
        &["a_director_comes_back_with_its_database_and_a_rollback_takes_that_back"],
    ),
];

#[test]
fn every_manager_has_a_test_that_bears_it() {
    let cells = MANAGERS.iter().flat_map(|(manager, cells)| {
        cells.iter().zip(CASES).map(move |(tests, case)| (format!("{manager}, {case}"), *tests))
    });
    hold(cells.chain(FAULTS.iter().map(|(what, tests)| ((*what).to_owned(), *tests))));
}
