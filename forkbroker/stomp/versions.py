"""What differs between STOMP 1.0, 1.1 and 1.2: one record of flags for each, and nothing anywhere else.

Parser, encoder and session read these flags; none of them asks for a version by name. Rows (F02, A01, ...) are
those of docs/conformance.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """The rules of one version of the protocol.

    Attributes:
        name: as in `accept-version` and `version`.
        escapes: letters that may follow a backslash in a header; empty: a backslash is itself (F18-F20).
        cr_ends_line: CR LF ends a line as LF does (F02).
        trims_headers: white space around header names and values is padding (F16, F17).
        utf8_required: headers that are not UTF-8 are an error; otherwise their bytes pass through (F13).
        length_on_every_frame: `content-length` counts on every frame, not on SEND alone (F09).
        ignores_stray_bodies: a body on a frame that has none is dropped, not an error (F11).
        subscription_id_required: SUBSCRIBE needs `id` (U01).
        anonymous_subscriptions: a subscription without `id` has none; otherwise its destination is its id (U01).
        unsubscribes_by_destination: UNSUBSCRIBE may name the destination instead of the id (U08).
        ack_modes: values that `ack` of SUBSCRIBE may have (U03).
        ack_header: the header of ACK and NACK that names the message (A01-A03).
        ack_names_subscription: ACK and NACK need `subscription` as well (A02).
        ack_by_message_id: that header may also be a `message-id` that says clearly what is meant (A03).
        message_carries_ack: MESSAGE has `ack` unless the mode is `auto` (S08).
        nack_allowed: NACK exists (A08).
        heart_beats: heart-beats exist (H09).
    """

    name: str
    escapes: str
    cr_ends_line: bool
    trims_headers: bool
    utf8_required: bool
    length_on_every_frame: bool
    ignores_stray_bodies: bool
    subscription_id_required: bool
    anonymous_subscriptions: bool
    unsubscribes_by_destination: bool
    ack_modes: frozenset[str]
    ack_header: str
    ack_names_subscription: bool
    ack_by_message_id: bool
    message_carries_ack: bool
    nack_allowed: bool
    heart_beats: bool


V10 = Version(
    name="1.0",
    escapes="",
    cr_ends_line=False,
    trims_headers=True,
    utf8_required=False,
    length_on_every_frame=False,
    ignores_stray_bodies=True,
    subscription_id_required=False,
    anonymous_subscriptions=True,
    unsubscribes_by_destination=True,
    ack_modes=frozenset({"auto", "client"}),
    ack_header="message-id",
    ack_names_subscription=False,
    ack_by_message_id=False,
    message_carries_ack=False,
    nack_allowed=False,
    heart_beats=False,
)
V11 = Version(
    name="1.1",
    escapes="nc\\",
    cr_ends_line=False,
    trims_headers=False,
    utf8_required=True,
    length_on_every_frame=False,
    ignores_stray_bodies=False,
    subscription_id_required=True,
    anonymous_subscriptions=False,
    unsubscribes_by_destination=False,
    ack_modes=frozenset({"auto", "client", "client-individual"}),
    ack_header="message-id",
    ack_names_subscription=True,
    ack_by_message_id=False,
    message_carries_ack=False,
    nack_allowed=True,
    heart_beats=True,
)
V12 = Version(
    name="1.2",
    escapes="nrc\\",
    cr_ends_line=True,
    trims_headers=False,
    utf8_required=True,
    length_on_every_frame=True,
    ignores_stray_bodies=False,
    subscription_id_required=True,
    anonymous_subscriptions=False,
    unsubscribes_by_destination=False,
    ack_modes=frozenset({"auto", "client", "client-individual"}),
    ack_header="id",
    ack_names_subscription=False,
    ack_by_message_id=False,
    message_carries_ack=True,
    nack_allowed=True,
    heart_beats=True,
)

VERSIONS: Mapping[str, Version] = MappingProxyType({version.name: version for version in (V10, V11, V12)})
"""All versions that are spoken, by name, the oldest first."""


def lenient(version: Version) -> Version:
    """The rules of `version` with what clients of other brokers do beyond them, and are understood there.

    All of it is an error by the text of that version, and with `--strict`.
    """
    return replace(
        version,
        cr_ends_line=True,
        subscription_id_required=False,
        unsubscribes_by_destination=True,
        ack_modes=V12.ack_modes,
        ack_names_subscription=False,
        ack_by_message_id=version.message_carries_ack,
        nack_allowed=True,
    )
