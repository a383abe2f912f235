"""A mesh for the session, a stage for each test, and one for a whole file where tests do not disturb each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.factory import MeshCa, make_mesh_ca
from tests.scenarios.http_actors import Origin, Pair, mesh_pair
from tests.scenarios.stage import Stage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What `make test` plays, in minutes; all others are long, as whatever is marked so, and played by `make scenarios`.
_PLAYED_BY_MAKE_TEST = frozenset(
    """
    admin_answers_only_to_names_of_this_machine allow_list_may_be_swapped_by_rename_or_link
    audit_mode_lets_pass_and_tells bad_files_are_told_all_at_once broken_allow_list_changes_nothing_and_heals
    ca_enrols_renews_and_tells_whom_to_trust ca_token_lets_in_once_and_its_copy_is_found_out
    caller_outside_its_certificates_time_is_refused caller_without_certificate_is_refused
    crashed_worker_is_replaced_while_the_other_serves demo endpoint_names_are_looked_up
    every_limit_is_kept_shown_and_counted expired_identity_refuses_and_heals
    faulty_identity_never_replaces_a_good_one flipped_byte_ends_the_connection
    foreign_ca_with_the_same_names_is_refused garbage_is_turned_away_while_others_are_served
    half_written_allow_list_never_grants_more haproxy_can_be_at_the_far_end http_answers_never_reach_another_request
    http_bodies_stream_with_flat_memory http_callers_identity_cannot_be_spoofed http_failures_say_their_phase
    http_get_is_sent_again_once_and_post_never http_limits_have_their_status http_messages_keep_their_meaning
    http_path_tricks_are_refused http_requests_are_granted_by_method_and_path http_upgrade_needs_the_same_grant
    identity_not_on_the_list_is_denied leaf_that_is_no_sound_identity_is_refused listed_identity_is_served
    max_connections_caps_a_listener metrics_have_the_documented_families only_tls_1_3_and_nothing_resumed
    plain_side_may_be_a_unix_socket policy_directory_follows_the_identity public_listen_shows_three_pages_only
    reload_is_asked_for_by_sighup_or_at_the_admin_socket renewed_identity_is_taken_up_without_a_restart
    reset_is_passed_on_as_a_reset revoked_caller_is_refused_and_its_open_connections_end
    sidecar_shows_its_own_dashboard sigterm_lets_what_is_in_flight_finish slow_reader_holds_up_only_itself
    status_tells_how_it_is truncated_stream_is_not_passed_on_as_an_end wait_ready_waits_until_it_serves
    what_needs_a_restart_is_refused_while_running wrong_server_identity_is_not_talked_to
    """.split()  # noqa: SIM905 - a page to be read
)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == _HERE and item.path.stem.removeprefix("test_") not in _PLAYED_BY_MAKE_TEST:
            item.add_marker(pytest.mark.long)


_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    return make_mesh_ca(tmp_path_factory.mktemp("mesh"))


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> MeshCa:
    """Another CA with the very same names."""
    return make_mesh_ca(tmp_path_factory.mktemp("foreign"))


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory, mesh: MeshCa) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stage"), mesh) as made:
        yield made


@pytest.fixture(scope="module")
def shared_stage(tmp_path_factory: pytest.TempPathFactory, mesh: MeshCa) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stage"), mesh) as made:
        yield made


@pytest.fixture(scope="module")
def shared_origin(shared_stage: Stage) -> Origin:
    return shared_stage.keep(Origin())


@pytest.fixture(scope="module")
def shared_pair(request: pytest.FixtureRequest, shared_stage: Stage, shared_origin: Origin) -> Pair:
    """Two sidecars in HTTP mode for a whole file; it may say ALLOW, API and WEB: the allow-list, and more keys."""
    told = {key: getattr(request.module, name, "") for key, name in _TOLD.items()}
    return mesh_pair(shared_stage, shared_origin, **told)


_TOLD = {"allow": "ALLOW", "api_more": "API", "web_more": "WEB"}


@pytest.fixture
def pair(shared_pair: Pair, shared_origin: Origin) -> Pair:
    """The file's two sidecars, with nothing left over from the test before."""
    shared_origin.start_over()
    shared_pair.turn_pages()
    shared_origin.start_over()
    return shared_pair


@pytest.fixture
def origin(pair: Pair, shared_origin: Origin) -> Origin:
    return shared_origin
