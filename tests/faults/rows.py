"""The fault matrix: each fault, what the gateway promises, and the tests that prove it.

`make faults` runs all of them; `test_rows.py` sees that no row is missing and that each test exists. A row whose tests
are elsewhere is proven closer to the code that keeps the promise.
"""

from __future__ import annotations

import sys
from typing import Final, NamedTuple

UPSTREAMS: Final = "tests/faults/test_upstream_faults.py"
MACHINE: Final = "tests/faults/test_machine_faults.py"
NETWORK: Final = "tests/faults/test_network_faults.py"
UNBUILT: Final = "tests/faults/test_unbuilt.py"


class Row(NamedTuple):
    """One row. `tests`: file -> names of functions."""

    fault: str
    promise: str
    tests: dict[str, tuple[str, ...]]


ROWS: Final = {
    1: Row(
        "an upstream over HTTP hangs up on a call",
        "the outcome is unknown at once; other calls go on; nothing is sent twice",
        {UPSTREAMS: ("test_row_01_upstream_killed_mid_call",)},
    ),
    2: Row(
        "a child is killed during a call",
        "the outcome is unknown at once; the child is reaped and started again",
        {UPSTREAMS: ("test_row_02_child_killed_mid_call",)},
    ),
    3: Row(
        "a child dies while a grandchild holds its pipe",
        "as row 2, and the grandchild is ended",
        {UPSTREAMS: ("test_row_03_child_dies_while_a_grandchild_holds_the_pipe",)},
    ),
    4: Row(
        "a child ends at once, is missing, or dies again and again",
        "its calls go to a replica; at most one start a second, then ever fewer",
        {
            "tests/upstream/test_watch.py": (
                "test_a_command_that_fails_is_tried_at_most_once_a_second",
                "test_a_server_that_dies_soon_after_each_start_is_started_ever_more_rarely_and_shown_so",
            ),
            "tests/upstream/transports/test_stdio.py": (
                "test_what_cannot_be_started_is_not_sent",
                "test_a_server_that_exits_at_once_is_not_sent_and_says_why",
            ),
            "tests/pipeline/test_router.py": ("test_what_was_not_sent_goes_to_the_next_candidate",),
        },
    ),
    5: Row(
        "a child ignores the end of stdin and SIGTERM",
        "it is killed within six seconds, with all its children",
        {
            "tests/upstream/process/test_child.py": (
                "test_a_stubborn_family_is_killed",
                "test_sigterm_comes_before_sigkill",
            )
        },
    ),
    6: Row("noise on a child's stdout", "skipped and counted", {UPSTREAMS: ("test_row_06_noise_on_stdout",)}),
    7: Row(
        "100 MB on a child's stderr",
        "drained, and only some lines logged",
        {UPSTREAMS: ("test_row_07_flood_on_stderr",)},
    ),
    8: Row(
        "a child stops reading",
        "its calls end, others go on, and it is started again",
        {
            UPSTREAMS: ("test_row_08_child_stops_reading",),
            "tests/upstream/transports/test_stdio.py": (
                "test_a_child_that_stops_reading_is_given_up_and_blocks_no_caller",
            ),
        },
    ),
    9: Row(
        "connection refused, or accepted and closed",
        "a replica gets the call",
        {
            MACHINE: ("test_row_09_connection_refused",),
            "tests/http1/client/test_connection.py": (
                "test_a_request_is_not_sent_on_a_connection_that_was_closed_before",
            ),
        },
    ),
    10: Row(
        "packets of a new connection disappear",
        "given up after the connect timeout, then a replica gets the call",
        {NETWORK: ("test_row_10_packets_of_a_new_connection_disappear",)},
    ),
    11: Row(
        "an open connection goes silent",
        "the outcome is unknown at the deadline; the system finds the silence of idle ones",
        {
            NETWORK: ("test_row_11_half_open_connection",),
            "tests/upstream/transports/test_client.py": ("test_sockets_notice_that_the_other_side_is_gone",),
        },
    ),
    12: Row("an answer trickles", "the deadline covers all of it", {UPSTREAMS: ("test_row_12_trickle",)}),
    13: Row(
        "no answer",
        "the call ends at its deadline and is cancelled upstream; progress extends it up to the maximum",
        {
            UPSTREAMS: ("test_row_13_no_answer",),
            "tests/pipeline/test_pipeline.py": ("test_progress_keeps_a_call_alive_up_to_the_hard_maximum",),
        },
    ),
    14: Row("malformed JSON", "costs its call alone", {UPSTREAMS: ("test_row_14_malformed_json",)}),
    15: Row("a wrong id", "no call's answer", {UPSTREAMS: ("test_row_15_wrong_id",)}),
    16: Row("two responses", "the first counts", {UPSTREAMS: ("test_row_16_duplicate_response",)}),
    17: Row(
        "a response with the id of another agent's call",
        "agents' calls keep their answers",
        {
            UPSTREAMS: ("test_row_17_response_to_the_id_of_another_agent",),
            "tests/upstream/transports/test_duplex.py": (
                "test_an_answer_that_came_before_its_request_is_not_its_answer",
            ),
        },
    ),
    18: Row(
        "a web page instead of an answer",
        "a failure; the page reaches no agent",
        {UPSTREAMS: ("test_row_18_web_page",)},
    ),
    19: Row("a redirect", "not followed", {UPSTREAMS: ("test_row_19_redirect_to_another_origin",)}),
    20: Row("a giant body", "cut at the limit", {UPSTREAMS: ("test_row_20_giant_body",)}),
    21: Row("a compressed body", "refused undecoded", {UPSTREAMS: ("test_row_21_compressed_answer",)}),
    22: Row("comments without end", "the deadline holds", {UPSTREAMS: ("test_row_22_endless_comments",)}),
    23: Row("an event without end", "cut at the limit", {UPSTREAMS: ("test_row_23_event_without_end",)}),
    24: Row(
        "an event stream that is cut anywhere",
        "read alike",
        {
            "tests/upstream/transports/test_events.py": (
                "test_any_stream_parses_the_same_however_it_is_split",
                "test_all_line_ends_mean_the_same_at_every_split",
                "test_a_byte_order_mark_is_one_only_at_the_start",
            )
        },
    ),
    25: Row(
        "a stream ends without the answer",
        "the outcome is unknown at once",
        {UPSTREAMS: ("test_row_25_stream_ends_without_the_answer",)},
    ),
    26: Row("invalid UTF-8", "costs its message alone", {UPSTREAMS: ("test_row_26_invalid_utf8",)}),
    27: Row(
        "deep nesting",
        "refused without an internal error",
        {
            UPSTREAMS: ("test_row_27_deep_nesting",),
            "tests/mcp/test_decoder.py": (
                "test_what_is_no_message_is_refused_with_its_code",
                "test_depth_is_that_of_brackets_outside_of_strings",
            ),
        },
    ),
    28: Row(
        "members that parsers read differently, long numbers, half surrogates",
        "refused in the envelope; payloads pass unaltered",
        {
            UPSTREAMS: ("test_row_28_ambiguous_members_and_long_numbers",),
            "tests/mcp/test_decoder.py": (
                "test_members_that_parsers_read_differently_are_refused",
                "test_a_number_of_any_length_passes_whatever_else_is_in_the_message",
                "test_half_surrogate_pairs_are_mended_where_that_is_asked_for",
            ),
        },
    ),
    29: Row(
        "10,000 tools, huge definitions, recursive references",
        "bounded, and still listed",
        {
            "tests/conformance/test_clauses_catalog.py": (
                "test_ten_thousand_tools_are_listed",
                "test_schemas_keep_their_bytes_and_no_reference_is_followed",
            ),
            "tests/upstream/lists/test_listing.py": ("test_a_huge_entry_is_left_out_unread",),
            "tests/upstream/lists/test_schemas.py": ("test_a_schema_without_end_is_given_up",),
        },
    ),
    30: Row(
        "pages without end",
        "cut, with a warning",
        {
            "tests/upstream/lists/test_listing.py": (
                "test_pages_without_end_are_cut",
                "test_the_same_cursor_again_or_a_huge_one_ends_the_list",
            )
        },
    ),
    31: Row(
        "a tool or its schema vanishes between list and call",
        "an error, or a repetition by the new schema; and one refresh",
        {
            "tests/conformance/test_clauses_catalog.py": (
                "test_a_tool_that_vanished_costs_one_refresh",
                "test_clause_16_a_changed_schema_costs_one_refresh_and_one_repetition",
            ),
        },
    ),
    32: Row(
        "a storm of list changes",
        "one fetch a second",
        {"tests/conformance/test_clauses_catalog.py": ("test_a_storm_of_changes_is_fetched_once_a_second",)},
    ),
    33: Row(
        "a storm of progress",
        "bounded for each call; the newest stays",
        {
            "tests/conformance/test_clauses_notifications.py": (
                "test_clause_25_a_storm_of_progress_is_coalesced_and_ends_with_the_answer",
            ),
            "tests/downstream/streams/test_stream.py": ("test_a_storm_leaves_the_newest",),
        },
    ),
    34: Row(
        "an agent does not read",
        "it alone is hung up on",
        {
            "tests/downstream/test_app.py": ("test_an_agent_that_does_not_read_is_hung_up_on_alone",),
            "tests/downstream/test_stdio.py": ("test_an_agent_that_does_not_read_holds_up_only_itself",),
        },
    ),
    35: Row(
        "an agent leaves during a call",
        "a modern call is cancelled upstream, a legacy one goes on",
        {
            "tests/conformance/test_clauses_transport.py": (
                "test_clause_07_a_modern_agent_that_leaves_has_cancelled",
                "test_clause_08_a_legacy_agent_that_leaves_has_not_cancelled",
            )
        },
    ),
    36: Row(
        "an upstream ignores a cancellation",
        "the agent is free, the upstream's place is not",
        {UPSTREAMS: ("test_row_36_upstream_ignores_a_cancellation",)},
    ),
    37: Row(
        "slow headers, slow bodies, silent sockets",
        "ended in time; others are served",
        {
            "tests/downstream/test_app.py": (
                "test_slow_headers_and_silent_sockets_are_ended",
                "test_a_slow_body_is_ended",
                "test_a_flood_of_silent_connections_is_cut_off",
            )
        },
    ),
    38: Row(
        "large bodies and headers",
        "413 and 431, unread",
        {
            "tests/downstream/test_app.py": (
                "test_a_large_body_is_refused_unread",
                "test_too_many_or_too_large_headers_are_refused",
            )
        },
    ),
    39: Row(
        "smuggled requests",
        "400, and the connection ends",
        {
            "tests/http1/test_oracles.py": (
                "test_no_request_is_read_otherwise_than_by_h11_and_httptools",
                "test_past_finds",
            ),
            "tests/downstream/test_app.py": ("test_ambiguous_framing_is_a_bad_request_and_ends_the_connection",),
        },
    ),
    40: Row(
        "thousands of idle listeners",
        "40 KiB each; calls among them are answered",
        {MACHINE: ("test_row_40_idle_listeners",)},
    ),
    41: Row(
        "more connections than allowed",
        "503 with Retry-After; operators get in",
        {
            "tests/downstream/test_app.py": ("test_too_many_connections_are_told_to_come_back_while_operators_get_in",),
            "tests/cli/serving/test_start.py": ("test_operators_are_answered_while_agents_hold_all_connections",),
        },
    ),
    42: Row(
        "sessions without end",
        "a principal loses its own",
        {
            "tests/downstream/test_legacy_http.py": (
                "test_clients_that_never_delete_their_sessions_get_new_ones",
                "test_the_session_limit_of_one_agent_is_no_other_agents_business",
            )
        },
    ),
    43: Row("no descriptors left", "no spinning; recovers", {MACHINE: ("test_row_43_no_descriptors",)}),
    44: Row("no memory left", "503 for new work; nothing dies", {MACHINE: ("test_row_44_memory_pressure",)}),
    45: Row(
        "a full disk",
        "served on; lost lines are counted",
        {
            MACHINE: ("test_row_45_full_disk",),
            "tests/log/test_sink.py": (
                "test_a_full_disk_drops_counts_and_recovers",
                "test_a_file_that_cannot_be_written_is_reported_once_on_standard_error",
            ),
        },
    ),
    46: Row(
        "the log file is moved away",
        "opened again",
        {
            "tests/log/test_sink.py": (
                "test_a_rotated_file_is_opened_again",
                "test_a_signalled_rotation_opens_the_file_again",
            )
        },
    ),
    47: Row(
        "the port is in use",
        "exit code 1 with pid and port; no child is started",
        {
            "tests/cli/serving/test_start.py": (
                "test_a_port_in_use_names_the_holder_and_the_remedies",
                "test_a_port_in_use_is_found_before_the_gateway_is_loaded",
                "test_what_is_refused_leaves_no_server_behind",
            )
        },
    ),
    48: Row(
        "a stale, reused or garbled pid file",
        "only the lock counts",
        {
            "tests/cli/test_instance.py": (
                "test_a_stale_file_with_the_pid_of_a_stranger_blocks_no_start",
                "test_garbage_blocks_no_start",
            ),
            "tests/cli/serving/test_start.py": ("test_a_stale_file_does_not_block_a_start",),
        },
    ),
    49: Row(
        "concurrent starts",
        "exactly one wins",
        {
            "tests/cli/serving/test_start.py": ("test_concurrent_starts_leave_exactly_one",),
            "tests/cli/test_instance.py": ("test_twenty_parallel_starts_leave_exactly_one",),
        },
    ),
    50: Row(
        "SIGTERM under load",
        "calls in flight finish; streams end; children are gone",
        {
            "tests/acceptance/test_main_job.py": ("test_calls_in_flight_finish_before_the_gateway_stops",),
            "tests/conformance/test_clauses_notifications.py": (
                "test_clause_35_sigterm_ends_a_listen_stream_with_its_result",
            ),
            "tests/cli/serving/test_start.py": ("test_a_server_on_stdio_is_started_once_and_ends_with_the_gateway",),
        },
    ),
    51: Row(
        "SIGKILL of the gateway",
        "its children end; the next start is clean",
        {
            "tests/acceptance/test_main_job.py": ("test_kill_9_of_the_gateway_leaves_no_child",),
            "tests/cli/serving/test_start.py": ("test_a_killed_gateway_does_not_block_the_next",),
        },
    ),
    52: Row(
        "reload under load",
        "no call at an upstream that stays fails; none is judged by two configurations; a wrong file changes nothing",
        {
            MACHINE: ("test_row_52_reload_under_load",),
            "tests/generations/test_under_load.py": (
                "test_no_call_fails_and_none_is_judged_by_two_configurations",
                "test_fifty_reloads_leave_nothing_behind",
                "test_a_wrong_file_costs_nothing_but_a_list_of_problems",
            ),
        },
    ),
    53: Row("the clock jumps", "limits and pauses do not follow it", {MACHINE: ("test_row_53_clock_jump",)}),
    54: Row("Redis is down", "each process counts alone", {UNBUILT: ("test_row_54_redis_is_down",)}),
    55: Row(
        "a plugin raises",
        "refused or ignored as configured; the others run",
        {
            "tests/hooks/test_chain.py": (
                "test_a_failing_before_call_refuses_the_call",
                "test_a_failing_before_call_is_passed_over_with_on_error_ignore",
                "test_a_failing_after_call_withholds_the_result",
            )
        },
    ),
    56: Row(
        "a plugin hangs or blocks the loop",
        "ended in time; the log names it; the process can be stopped",
        {
            "tests/hooks/test_chain.py": ("test_an_after_call_that_hangs_is_ended",),
            "tests/log/test_loop_lag.py": (
                "test_a_plugin_is_named",
                "test_a_loop_that_stays_blocked_is_logged_meanwhile",
            ),
            "tests/cli/serving/test_start.py": ("test_a_blocked_event_loop_does_not_keep_the_process_alive",),
        },
    ),
    57: Row(
        "patterns that backtrack",
        "linear time",
        {
            "plugins/security_redact/tests/test_plugin.py": (
                "test_a_pattern_that_makes_other_engines_backtrack_is_quick",
            ),
            "tests/catalog/uris/test_templates.py": ("test_many_wildcards_cost_no_backtracking",),
        },
    ),
    58: Row(
        "the token endpoint is down, slow or wrong",
        "one renewal for all, ahead of time, with growing pauses",
        {
            "tests/upstream/auth/test_tokens.py": (
                "test_an_endpoint_that_is_not_there",
                "test_a_slow_endpoint_is_bounded",
                "test_a_failing_endpoint_is_left_alone_for_longer_and_longer",
                "test_a_token_is_renewed_ahead_of_its_expiry_without_holding_calls_up",
                "test_a_refused_token_is_renewed_once_and_the_request_sent_again",
            )
        },
    ),
    59: Row(
        "all upstreams of a tool are down",
        "a clear error at once; its tools stay listed",
        {MACHINE: ("test_row_59_all_upstreams_of_a_tool_are_down",)},
    ),
    60: Row(
        "an upstream comes and goes every second",
        "few changes of state; a stable list",
        {MACHINE: ("test_row_60_flapping_upstream",)},
    ),
}


def nodes() -> list[str]:
    """The tests of all rows, as pytest takes them."""
    found = {f"{file}::{test}": None for row in ROWS.values() for file, tests in row.tests.items() for test in tests}
    return list(found)


if __name__ == "__main__":
    sys.stdout.write("\n".join(nodes()) + "\n")
