"""MQTT 3.1.1 with QoS 0. QoS 1 confirms that a message has arrived, not that it is stored."""

from others.clients import Exchange

_CONNECT, _PUBLISH, _SUBSCRIBE = 0x10, 0x30, 0x82
_CLEAN_SESSION = 0x02


def packet(kind: int, *parts: bytes) -> bytes:
    """The fixed header, with the length in groups of seven bits, and the rest."""
    content = b"".join(parts)
    length, left = bytearray(), len(content)
    while left >= 128:
        length.append(left % 128 | 128)
        left //= 128
    length.append(left)
    return bytes((kind,)) + length + content


def text(value: bytes) -> bytes:
    """A string with its length in front."""
    return len(value).to_bytes(2, "big") + value


class Mqtt:
    """See `others.clients`. Without a client id and a keep-alive."""

    login = Exchange(
        packet(_CONNECT, text(b"MQTT"), bytes((4, _CLEAN_SESSION)), bytes(2), text(b"")), rb"\x20\x02\x00\x00"
    )
    end = b""

    def subscribe(self, topic: bytes) -> Exchange:
        """SUBACK grants QoS 0."""
        return Exchange(packet(_SUBSCRIBE, b"\x00\x01", text(topic), b"\x00"), rb"\x90\x03\x00\x01\x00")

    def publish(self, topic: bytes, body: bytes) -> bytes:
        """A PUBLISH."""
        return packet(_PUBLISH, text(topic), body)
