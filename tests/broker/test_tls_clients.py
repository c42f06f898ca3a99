"""Programs of others that speak TLS, with certificates of their own: openssl, stomp.py, and Net::Stomp of Perl."""

from __future__ import annotations

import os
import select
import ssl
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

import pytest
import stomp
from support.certificates import HAS_OPENSSL, make_certificate
from support.deadline import stretched

from forkbroker.testing.broker import PATIENCE_S, RunningBroker

pytestmark = pytest.mark.skipif(not HAS_OPENSSL, reason="openssl is not installed: no certificates")

CONVERSATION = """CONNECT
accept-version:1.2
host:/

^@SUBSCRIBE
id:1
destination:/queue/a

^@SEND
destination:/queue/a
receipt:sent

by hand^@"""

PERL = r"""
use strict;
use Net::Stomp;
my ($port, $ca, $certificate, $key) = @ARGV;
my $stomp = Net::Stomp->new({
    hostname => '127.0.0.1', port => $port, ssl => 1,
    ssl_options => {
        SSL_ca_file => $ca, SSL_cert_file => $certificate, SSL_key_file => $key,
        SSL_hostname => 'localhost', SSL_verifycn_name => 'localhost', SSL_verifycn_scheme => 'http',
    },
});
print $stomp->connect({})->command, "\n";
$stomp->send_with_receipt({destination => '/queue/a', body => 'from Perl', persistent => 'true'})
    or die 'no receipt';
$stomp->subscribe({destination => '/queue/a', id => 1, ack => 'client-individual'});
my $frame = $stomp->receive_frame({timeout => 30}) or die 'no message';
print $frame->command, ' ', $frame->body, "\n";
$stomp->ack({frame => $frame});
$stomp->disconnect;
"""


def has_perl() -> bool:
    """Whether there is Perl, with what it needs."""
    try:
        done = subprocess.run(["perl", "-MNet::Stomp", "-MIO::Socket::SSL", "-e", "1"], capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


class Site:
    """A broker that asks for certificates, and those of itself, alice and eve."""

    def __init__(self, make_broker: Callable[..., RunningBroker], directory: Path) -> None:
        self.own, self.alice, self.eve = (make_certificate(directory, name) for name in ("localhost", "alice", "eve"))
        config = directory / "f.toml"
        config.write_text(
            f'tls-certificate = "{self.own[0]}"\ntls-key = "{self.own[1]}"\ntls-client-ca = "{self.alice[0]}"\n'
            'tls-client-certificates = "required"\ntls-client-user = "cn"\n'
            '[permissions.user.alice]\nread = "/queue/a"\nwrite = "/queue/a"\ncreate = "/queue/a"\n'
        )
        self.broker = make_broker("--config", str(config), "--listen", "tls://127.0.0.1:0")
        (self.port,) = [int(one.rpartition(":")[2]) for one in self.broker.addresses if one.startswith("tls://")]


@pytest.fixture
def site(make_broker: Callable[..., RunningBroker], tmp_path: Path) -> Site:
    """The broker and the files."""
    return Site(make_broker, tmp_path)


def talk(site: Site, own: tuple[Path, Path], *more: str) -> str:
    """Let openssl say the conversation, with this certificate: what it hears, up to the message or the end."""
    command = ["openssl", "s_client", "-quiet", "-connect", f"127.0.0.1:{site.port}", "-servername", "localhost"]
    files = ["-CAfile", str(site.own[0]), "-verify_return_error", "-cert", str(own[0]), "-key", str(own[1])]
    with subprocess.Popen(
        [*command, *files, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as openssl:
        assert openssl.stdin is not None
        assert openssl.stdout is not None
        openssl.stdin.write(CONVERSATION.replace("^@", "\0").encode())
        openssl.stdin.flush()
        heard, give_up = b"", time.monotonic() + stretched(PATIENCE_S)
        while b"by hand" not in heard or heard.count(b"\0") < 3:
            ready, _, _ = select.select([openssl.stdout], [], [], max(0.0, give_up - time.monotonic()))
            octets = os.read(openssl.stdout.fileno(), 65_536) if ready else b""
            if not octets:
                break
            heard += octets
        openssl.kill()
    return heard.decode()


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl_sends_and_receives(site: Site, version: str) -> None:
    """With the certificate of a user that may; the certificate of the broker is the one that it trusts."""
    said = talk(site, site.alice, version)

    assert sorted(frame.strip().partition("\n")[0] for frame in said.split("\0")[:-1]) == [
        "CONNECTED",
        "MESSAGE",
        "RECEIPT",
    ]
    assert "\n\nby hand\0" in said
    site.broker.wait_for_log("alice: connected")


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_openssl_is_refused_with_an_old_version(site: Site, version: str) -> None:
    """Also if it takes the ciphers of then."""
    assert talk(site, site.alice, version, "-cipher", "ALL:@SECLEVEL=0") == ""


def test_openssl_is_refused_with_an_unknown_certificate(site: Site) -> None:
    """Before it can say anything; the log has the reason."""
    assert talk(site, site.eve) == ""
    site.broker.wait_for_log("disconnected, connection lost, TLS: ")


def test_stomppy_sends_and_receives(site: Site) -> None:
    """It looks at the name in the broker's certificate as well."""
    messages: SimpleQueue[str] = SimpleQueue()

    class Listener(stomp.ConnectionListener):  # type: ignore[misc]
        def on_message(self, frame: stomp.utils.Frame) -> None:
            messages.put(frame.body)

    client = stomp.Connection12([("localhost", site.port)])
    client.set_ssl(
        for_hosts=[("localhost", site.port)],
        ca_certs=str(site.own[0]), cert_file=str(site.alice[0]), key_file=str(site.alice[1]),
        ssl_version=ssl.PROTOCOL_TLS_CLIENT,
    )  # fmt: skip
    client.set_listener("", Listener())
    client.connect(wait=True)
    client.subscribe("/queue/a", 1)
    client.send("/queue/a", "from stomp.py")

    assert messages.get(timeout=stretched(PATIENCE_S)) == "from stomp.py"
    client.disconnect()


@pytest.mark.skipif(not has_perl(), reason="install libnet-stomp-perl and libio-socket-ssl-perl")
def test_perl_sends_and_receives(site: Site) -> None:
    """A persistent message with its receipt, and its acknowledgement."""
    files = map(str, (site.own[0], *site.alice))
    done = subprocess.run(
        ["perl", "-e", PERL, str(site.port), *files], capture_output=True, text=True, timeout=stretched(60)
    )

    assert (done.stdout, done.stderr) == ("CONNECTED\nMESSAGE from Perl\n", "")
    site.broker.wait_for_log("alice: disconnected, client sent DISCONNECT")
