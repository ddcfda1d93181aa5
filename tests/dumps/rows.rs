//! Each engine, and what of it was tried: dump, restore in place, under another name, rollback, killed half way.

use crate::support::rows::hold;

/// An engine, and its tests: dump and verification, restore in place and rollback, another name, killed half way.
type Row = (&'static str, [&'static [&'static str]; 4]);

const CASES: [&str; 4] =
    ["dumped and judged", "restored in place and rolled back", "under another name", "killed half way"];

const ENGINES: [Row; 11] = [
    (
        "PostgreSQL",
        [
            &[
                "what_cannot_be_dumped_whole_takes_no_snapshot_and_says_why",
                "a_damaged_dump_is_refused_before_anything_lives_and_a_failed_restore_leaves_the_old_data",
            ],
            &["databases_are_restored_into_their_own_server_with_applications_connected_and_rolled_back"],
            &[
                "one_database_is_restored_alone_or_as_another_one_beside_it_and_never_over_one_that_is_there",
                "a_second_instance_has_databases_of_its_own_and_those_of_the_first_are_never_touched",
            ],
            &[
                "killed_while_it_loads_or_after_the_swap_the_old_data_lives_after_the_next_start",
                "killed_half_way_or_not_healthy_a_second_instance_leaves_no_database_and_no_definition",
            ],
        ],
    ),
    (
        "MariaDB (and MySQL, whose real server is tried by `make soak`)",
        [
            &[
                "a_dump_that_is_cut_off_takes_no_snapshot_and_one_that_does_not_load_changes_nothing",
                "with_source_mysql_its_own_programs_are_called_with_their_own_options",
            ],
            &[
                "databases_are_restored_into_their_own_server_and_rolled_back",
                "soak_a_real_mysql_is_dumped_restored_rolled_back_and_copied",
            ],
            &[
                "a_database_lives_under_another_name_beside_the_one_that_lives_and_never_over_one_that_is_there",
            ],
            &[
                "killed_while_it_replaces_and_started_before_the_server_is_there_the_old_data_comes_back_in_the_end",
            ],
        ],
    ),
    (
        "Redis (a whole server: no other name in it)",
        [
            &["a_dump_that_is_cut_off_or_changed_takes_no_snapshot_and_a_failed_restore_leaves_the_old_keys"],
            &[
                "all_keys_are_restored_and_rolled_back",
                "all_keys_are_restored_where_an_append_only_file_is_in_use",
                "in_a_container_the_second_server_runs_there_too_and_nothing_of_it_is_left",
            ],
            &[],
            &["killed_while_the_restored_keys_live_the_old_ones_are_back_after_the_next_start"],
        ],
    ),
    (
        "SQLite",
        [
            &[
                "a_file_that_is_no_database_or_a_link_to_one_takes_no_snapshot",
                "what_does_not_load_on_another_machine_stops_nothing_there_and_changes_nothing",
            ],
            &[
                "a_file_in_use_is_dumped_whole_restored_and_rolled_back_with_what_lies_beside_it",
                "files_of_engines_on_another_machine_change_places_there_and_a_rollback_gives_back_the_old_ones",
            ],
            &["files_of_sqlite_move_with_the_instance_and_a_server_that_is_all_of_one_is_left_to_the_first"],
            &[
                "killed_while_the_restored_file_lives_the_old_one_is_back_after_the_next_start",
                "killed_anywhere_the_old_files_of_engines_live_when_the_other_machine_answers_again",
            ],
        ],
    ),
    (
        "OpenLDAP (a whole server)",
        [
            &[
                "a_dump_that_is_cut_off_takes_no_snapshot_and_a_server_that_runs_is_not_restored_beneath",
                "what_does_not_load_on_another_machine_stops_nothing_there_and_changes_nothing",
            ],
            &[
                "configuration_and_data_are_restored_into_their_own_server_and_rolled_back",
                "files_of_engines_on_another_machine_change_places_there_and_a_rollback_gives_back_the_old_ones",
                "system_servers_in_containers_are_dumped_and_restored_by_their_own_programs",
                "system_servers_in_a_podman_without_root_are_dumped_and_restored_for_its_user",
            ],
            &[],
            &[
                "killed_after_the_swap_the_old_directories_live_after_the_next_start",
                "system_servers_in_a_podman_without_root_are_dumped_and_restored_for_its_user",
                "killed_anywhere_the_old_files_of_engines_live_when_the_other_machine_answers_again",
            ],
        ],
    ),
    (
        "etcd (a whole server)",
        [
            &[
                "a_snapshot_that_is_cut_off_or_changed_is_none_and_a_failed_restore_leaves_the_old_keys",
                "what_does_not_load_on_another_machine_stops_nothing_there_and_changes_nothing",
            ],
            &[
                "all_keys_are_restored_into_their_own_server_and_rolled_back",
                "files_of_engines_on_another_machine_change_places_there_and_a_rollback_gives_back_the_old_ones",
                "system_servers_in_containers_are_dumped_and_restored_by_their_own_programs",
                "system_servers_in_a_podman_without_root_are_dumped_and_restored_for_its_user",
            ],
            &[],
            &[
                "killed_after_the_swap_the_old_data_lives_after_the_next_start",
                "system_servers_in_a_podman_without_root_are_dumped_and_restored_for_its_user",
                "killed_anywhere_the_old_files_of_engines_live_when_the_other_machine_answers_again",
            ],
        ],
    ),
    (
        "RabbitMQ, definitions (a whole server)",
        [
            &[
                "definitions_are_restored_into_their_own_server_undone_and_rolled_back_and_half_of_them_are_none",
            ],
            &["system_servers_in_containers_are_dumped_and_restored_by_their_own_programs"],
            &[],
            &[
                "definitions_are_restored_into_their_own_server_undone_and_rolled_back_and_half_of_them_are_none",
            ],
        ],
    ),
    (
        "RabbitMQ, messages (a whole node)",
        [
            &[
                "messages_are_saved_while_the_node_is_stopped_and_come_back_and_go_again",
                "messages_on_another_machine_are_saved_while_the_node_is_stopped_and_come_back_and_go_again",
            ],
            &[
                "messages_are_saved_while_the_node_is_stopped_and_come_back_and_go_again",
                "messages_on_another_machine_are_saved_while_the_node_is_stopped_and_come_back_and_go_again",
            ],
            &[],
            &[
                "messages_are_saved_while_the_node_is_stopped_and_come_back_and_go_again",
                "messages_on_another_machine_are_saved_while_the_node_is_stopped_and_come_back_and_go_again",
            ],
        ],
    ),
    (
        "OpenSearch, Elasticsearch (a server of the tests)",
        [
            &[
                "a_snapshot_that_is_not_whole_takes_no_set_and_leaves_nothing_on_the_server",
                "indices_on_another_machine_are_packed_and_laid_there_and_nothing_stays_of_what_is_lost_half_way",
            ],
            &[
                "indices_are_restored_with_their_aliases_into_their_own_server_and_rolled_back",
                "indices_come_back_over_ssh_with_their_aliases_and_go_again",
            ],
            &[
                "shards_that_do_not_come_and_documents_that_are_missing_are_found_before_anything_live_is_touched",
            ],
            &[
                "killed_anywhere_nothing_stays_on_the_server_and_the_old_indices_live_after_the_next_start",
                "indices_on_another_machine_are_packed_and_laid_there_and_nothing_stays_of_what_is_lost_half_way",
            ],
        ],
    ),
    (
        "MongoDB (programs of the tests)",
        [
            &[
                "an_archive_that_is_not_whole_takes_no_set_whatever_its_program_says",
                "mongodb_on_another_machine_is_dumped_restored_and_put_back_by_the_tools_there",
            ],
            &[
                "the_whole_server_is_restored_as_it_was_at_one_moment",
                "databases_of_mongodb_come_back_over_ssh_whole_and_go_again",
                "in_a_container_its_own_tools_run_and_are_told_the_password_by_pipes",
            ],
            &["databases_are_restored_rolled_back_and_loaded_under_another_name"],
            &[
                "killed_half_way_the_old_documents_are_loaded_back_at_the_next_start",
                "mongodb_on_another_machine_is_dumped_restored_and_put_back_by_the_tools_there",
            ],
        ],
    ),
    (
        "command",
        [
            &["a_program_that_fails_or_prints_nothing_takes_no_snapshot_and_without_a_way_back_it_is_said"],
            &["what_a_program_prints_is_what_the_other_reads_and_a_rollback_gives_back_what_was"],
            &[],
            &["killed_while_the_program_reads_what_was_before_is_given_back_after_the_next_start"],
        ],
    ),
];

/// What is the same for several engines.
const MORE: [(&str, &[&str]); 7] = [
    (
        "streamed",
        &[
            "databases_are_streamed_into_two_repositories_and_come_back_from_either",
            "a_dump_that_is_cut_off_or_fails_is_in_no_snapshot",
            "killed_in_the_middle_nothing_of_it_is_kept_even_by_a_restic_that_lives_on",
            "a_large_stream_needs_no_more_memory_than_a_small_one_and_no_disk",
            "system_dumps_are_streamed_out_of_containers_and_half_of_one_is_never_stored",
            "system_a_mariadb_is_streamed_out_of_its_container_or_nothing_of_it_is_stored",
        ],
    ),
    (
        "over ssh",
        &[
            "databases_are_dumped_and_restored_over_ssh_into_their_own_server",
            "a_connection_lost_while_files_of_engines_change_places_leaves_them_wholly_old_or_wholly_new",
            "half_a_dump_of_a_program_that_exits_with_0_over_ssh_makes_no_set",
            "over_ssh_too_a_server_is_checked_by_an_authority_and_asks_for_a_certificate",
        ],
    ),
    ("no room for a dump", &["system_no_engine_makes_a_set_of_a_dump_that_found_no_room"]),
    (
        "made elsewhere, edited",
        &[
            "a_text_of_all_databases_made_elsewhere_is_loaded_whole_or_one_taken_out_of_it",
            "an_edited_dump_is_loaded_instead_of_the_saved_one_and_what_is_none_changes_nothing",
            "an_archive_that_is_given_is_loaded_and_one_that_is_none_changes_nothing",
            "a_repository_that_is_given_is_loaded_and_one_that_is_none_changes_nothing",
        ],
    ),
    (
        "a shrunk dump",
        &["all_databases_of_a_server_are_dumped_but_those_left_out_and_a_shrunk_one_is_a_warning"],
    ),
    ("as another user", &["system_client_programs_run_as_the_user_that_the_definition_names"]),
    ("of another machine", &["what_another_machine_saved_is_defined_here_with_its_databases"]),
];

#[test]
fn every_engine_has_a_test_that_bears_it() {
    let cells = ENGINES.iter().flat_map(|(engine, cells)| {
        cells.iter().zip(CASES).map(move |(tests, case)| (format!("{engine}, {case}"), *tests))
    });
    hold(cells.chain(MORE.iter().map(|(what, tests)| ((*what).to_owned(), *tests))));
}
