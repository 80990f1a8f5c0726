"""What holds of a relay holds where both of its connections are TLS, whose transports are others."""

import pytest

from tests.certificates import Certificates
from tests.sockets.relaying import SECURED
from tests.sockets.test_hostile import test_anything_at_all
from tests.sockets.test_relay import (
    relay,
    test_a_cancelled_relay_goes_away,
    test_a_client_that_leaves_before_the_upstream_is_there,
    test_a_client_that_takes_little_at_a_time_is_not_cut,
    test_a_cut_is_at_once,
    test_a_side_that_takes_nothing_is_cut,
    test_a_slow_client_holds_the_upstream_back,
    test_a_slow_client_is_not_flooded_by_an_upstream_that_is_closing,
    test_an_abrupt_loss_is_told_to_the_other,
    test_an_idle_client_is_pinged_and_missed,
    test_an_upstream_is_read_on_when_its_slow_client_is_lost,
    test_bytes_right_behind_the_handshakes,
    test_close_codes_pass_both_ways,
    test_frames_pass_as_they_are,
    test_half_frames,
    test_nothing_of_a_socket_waits_for_the_garbage_collector,
    test_peers_that_do_not_answer_our_close_are_cut,
    test_what_came_before_the_upstream_is_kept,
)
from tests.sockets.test_watching import (
    test_a_judged_message_waits_and_so_does_what_follows,
    test_a_session_cut_in_the_upstreams_midst,
)

__all__ = [
    "relay",
    "test_a_cancelled_relay_goes_away",
    "test_a_client_that_leaves_before_the_upstream_is_there",
    "test_a_client_that_takes_little_at_a_time_is_not_cut",
    "test_a_cut_is_at_once",
    "test_a_judged_message_waits_and_so_does_what_follows",
    "test_a_session_cut_in_the_upstreams_midst",
    "test_a_side_that_takes_nothing_is_cut",
    "test_a_slow_client_holds_the_upstream_back",
    "test_a_slow_client_is_not_flooded_by_an_upstream_that_is_closing",
    "test_an_abrupt_loss_is_told_to_the_other",
    "test_an_idle_client_is_pinged_and_missed",
    "test_an_upstream_is_read_on_when_its_slow_client_is_lost",
    "test_anything_at_all",
    "test_bytes_right_behind_the_handshakes",
    "test_close_codes_pass_both_ways",
    "test_frames_pass_as_they_are",
    "test_half_frames",
    "test_nothing_of_a_socket_waits_for_the_garbage_collector",
    "test_peers_that_do_not_answer_our_close_are_cut",
    "test_what_came_before_the_upstream_is_kept",
]


@pytest.fixture(autouse=True)
def _secured(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS both ways. Upstreams' certificates are checked against the system's roots, which this variable names."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.root))
    monkeypatch.setattr(SECURED, "by", certificates)
