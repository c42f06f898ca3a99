"""The verbs of stomp-brokerctl that ask a broker, against a real one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.deadline import stretched, wait_until
from support.rawclient import RawClient, connect

from forkbroker.testing.broker import RunningBroker

COMMAND = [sys.executable, str(Path(__file__).parents[2] / "bin" / "stomp-brokerctl")]
Ctl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def broker() -> Iterator[RunningBroker]:
    with RunningBroker() as broker:
        yield broker


@pytest.fixture
def ctl(broker: RunningBroker) -> Ctl:
    """Run the command to its end."""

    def run(*arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=stretched(60.0),
            env={**os.environ, "FORKBROKER_URL": f"{broker.host}:{broker.port}", **environment},
        )

    return run


@pytest.fixture
def client(broker: RunningBroker) -> Iterator[RawClient]:
    with connect(broker.port, headers={"login": "alice"}) as client:
        yield client


def rows(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert (done.returncode, done.stderr) == (0, "")
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def waiting(ctl: Ctl, name: str) -> int:
    return sum(row["waiting"] for row in rows(ctl("queues", name, "--interval", "0", "--json")))


def reject(client: RawClient, queue: str, count: int, **headers: str) -> None:
    """So many dead letters of a queue, by NACKs with these headers."""
    for number in range(count):
        client.publish(queue, f"m{number}", persistent="true", parity=str(number % 2))
    client.subscribe(queue, "r", ack="client-individual")
    for _ in range(count):
        client.nack(client.expect("MESSAGE"), requeue="false", **headers)
    client.request("UNSUBSCRIBE", id="r")


def test_listings_have_titles_and_stable_columns(ctl: Ctl, client: RawClient) -> None:
    """And JSON has the members of the protocol."""
    client.subscribe("/queue/columns", 1)
    titles = {
        "who": "CLIENT LOGIN ADDRESS HOST PID STATE SINCE QUEUES UNSETTLED PENDING",
        "queues": "QUEUE WAITING UNSETTLED DELAYED CONSUMERS BYTES OLDEST IN/S OUT/S HELD",
        "topics": "TOPIC SUBSCRIBERS DURABLES",
        "subscriptions": "CLIENT LOGIN ADDRESS DESTINATION ACK PREFETCH UNSETTLED EXCLUSIVE",
    }
    for verb, line in titles.items():
        done = ctl(verb, *(["--interval", "0"] if verb == "queues" else []))
        assert done.stdout.split("\n")[0].split() == line.split()
    (row,) = rows(ctl("who", "alice", "--json"))
    assert (row["login"], row["address"]) == ("alice", client.address)


def test_listings_are_sorted_filtered_and_cut_by_the_broker(ctl: Ctl, client: RawClient) -> None:
    """The smallest first, or the largest; those of one sort; a page of them."""
    for number in range(3):
        for _ in range(number + 1):
            client.publish(f"/queue/sorted.{number}", "x")
    client.subscribe("/queue/sorted.1", 1, ack="client-individual")
    client.expect("MESSAGE")

    def names(*more: str) -> list[str]:
        found = rows(ctl("queues", "sorted.*", "--interval", "0", "--json", *more))
        return [row["name"].removeprefix("/queue/sorted.") for row in found]

    assert names("--sort", "name", "--reverse") == ["2", "1", "0"]
    assert names("--sort", "waiting", "--reverse", "--limit", "1") == ["2"]
    assert names("--sort", "name", "--offset", "1") == ["1", "2"]
    assert sorted(names("--filter", "stuck")) == ["0", "2"]
    assert (
        ctl("queues", "sorted.*", "--sort", "name", "--limit", "1").stdout.split("\n")[1].startswith("/queue/sorted.0")
    )


def test_rates_of_a_page_are_measured(ctl: Ctl, client: RawClient) -> None:
    """Also if other queues came first at the first look."""
    client.publish("/queue/paged", "1")
    (row,) = rows(ctl("queues", "paged", "--interval", "0.2s", "--sort", "name", "--limit", "1", "--json"))

    assert (row["in-rate"], row["out-rate"]) == (0, 0)


def test_clients_and_processes_are_sorted_and_shown_with_what_they_use(ctl: Ctl, client: RawClient) -> None:
    """Columns that are there only if they are asked for."""
    titles = ctl("who", "--use").stdout.split("\n")[0].split()
    assert titles[-2:] == ["CPU", "MEMORY"]
    assert ctl("processes", "--sort", "memory", "--reverse").stdout.split("\n")[0].split() == [
        "ROLE", "PID", "CPU", "MEMORY",
    ]  # fmt: skip
    (row,) = rows(ctl("who", "alice", "--sort", "seconds", "--limit", "1", "--json"))
    client.subscribe("/topic/of-one", 1)
    (one,) = rows(ctl("subscriptions", "of-one", "--client", str(row["client"]), "--json"))

    assert (one["client"], one["destination"]) == (row["client"], "/topic/of-one")
    assert rows(ctl("subscriptions", "of-one", "--client", str(row["client"] + 1_000), "--json")) == []


def test_messages_are_shown_in_pages_and_dead_letters_by_their_origin(ctl: Ctl, client: RawClient) -> None:
    """As the page does it."""
    for number in range(4):
        client.publish("/queue/long", f"{number}")
    found = rows(ctl("show", "long", "--offset", "1", "--limit", "2", "--body", "--json"))
    assert [row["body"] for row in found] == ["1", "2"]
    reject(client, "/queue/origin.a", 2)
    reject(client, "/queue/origin.b", 1)

    assert len(rows(ctl("show", "DLQ", "--origin", "origin.a", "--json"))) == 2
    assert ctl("rm", "DLQ", "--origin", "origin.b").stdout == "1 message dropped\n"
    assert ctl("rm", "DLQ", "--origin", "/queue/origin.a").stdout == "2 messages dropped\n"


def test_of_several_clients_of_a_login_one_has_to_be_named(ctl: Ctl, broker: RunningBroker) -> None:
    """The error has their numbers and addresses."""
    with (
        connect(broker.port, headers={"login": "twins"}) as one,
        connect(broker.port, headers={"login": "twins"}) as two,
    ):
        done = ctl("tail", "twins")

        assert (done.returncode, done.stdout) == (69, "")
        assert "2 clients are 'twins', name one by its number or address: " in done.stderr
        assert f"({one.address})" in done.stderr and f"({two.address})" in done.stderr


def test_rates_are_measured(ctl: Ctl, client: RawClient) -> None:
    """Between two looks."""
    client.publish("/queue/rates", "1")
    (row,) = rows(ctl("queues", "rates", "--interval", "0.2s", "--json"))

    assert (row["in-rate"], row["out-rate"]) == (0, 0)


def test_a_message_is_sent_from_an_argument_or_from_standard_input(ctl: Ctl, client: RawClient) -> None:
    """Or one of each line."""
    assert ctl("send", "/queue/sent", "a", "--header", "k:v:w").stdout == "sent 1 message to /queue/sent\n"
    assert ctl("send", "/queue/sent", "--persistent", "b").returncode == 0
    ctl("send", "/queue/sent", stdin="c\n")
    assert "sent 2 messages" in ctl("send", "/queue/sent", "--lines", stdin="d\ne\n").stdout
    assert "sent 2 messages" in ctl("send", "/queue/sent", "f", "--count", "2").stdout
    client.subscribe("/queue/sent", 1)

    messages = client.expect_messages("a", "b", "c\n", "d", "e", "f", "f")
    assert messages[0]["k"] == "v:w"
    assert messages[1]["persistent"] == "true"


def test_dead_letters_go_back(ctl: Ctl, client: RawClient) -> None:
    """By id, from standard input, by header, and all."""
    reject(client, "/queue/failing", 6)
    found = rows(ctl("show", "DLQ", "--reason", "rejected", "--json"))
    ids = [row["id"] for row in found if row["origin"] == "/queue/failing"]
    assert len(ids) == 6
    assert ctl("retry", "DLQ", ids[0], "--dry-run").stdout == "1 message would be moved back\n"
    assert ctl("retry", "DLQ", "-", stdin="\n".join(ids[:2])).stdout == "2 messages moved back\n"
    assert ctl("retry", "DLQ", "--header", "parity:0").stdout == "2 messages moved back\n"
    assert ctl("retry", "DLQ", "ALL").stdout == "2 messages moved back\n"

    assert (waiting(ctl, "DLQ"), waiting(ctl, "failing")) == (0, 6)
    client.subscribe("/queue/failing", 1)
    assert "delivery-count" not in client.expect("MESSAGE")


def test_dead_letters_are_chosen_by_the_reason_that_the_consumer_gave(ctl: Ctl, client: RawClient) -> None:
    """It is shown, and a header as any other."""
    reject(client, "/queue/why", 2, reason="disk\x1b full")
    reject(client, "/queue/why", 1, reason="timeout")
    found = rows(ctl("show", "DLQ", "--header", "original-destination:/queue/why", "--json"))
    assert [row["reject-reason"] for row in found] == ["disk\x1b full", "disk\x1b full", "timeout"]
    assert "dead letter of /queue/why: rejected (disk\\x1b full)" in ctl("show", "DLQ", found[0]["id"]).stdout
    assert ctl("show", "DLQ").stdout.split("\n")[0].split()[-1] == "REJECT-REASON"
    assert ctl("retry", "DLQ", "--header", "reject-reason:timeout", "--reason", "rejected").stdout == (
        "1 message moved back\n"
    )

    assert ctl("rm", "DLQ", "--header", "original-destination:/queue/why").stdout == "2 messages dropped\n"
    (back,) = rows(ctl("show", "why", "--json"))
    assert (back["reason"], back["reject-reason"]) == (None, None)


def test_messages_are_shown_with_their_bodies(ctl: Ctl, client: RawClient) -> None:
    """Control characters do not reach the terminal."""
    client.publish("/queue/shown", "first\x1b[31m", k="v")
    (row,) = rows(ctl("show", "shown", "--json"))
    assert row["headers"]["k"] == "v" and "body" not in row
    text = ctl("show", "shown", row["id"]).stdout

    assert "first\\x1b[31m" in text and "k: v" in text
    assert ctl("show", "shown", "no-such-id").returncode == 66
    assert waiting(ctl, "shown") == 1


def test_messages_are_moved_copied_and_dropped(ctl: Ctl, client: RawClient) -> None:
    """It is always said how many."""
    for number in range(4):
        client.publish("/queue/from", f"{number}", persistent="true")
    assert ctl("move", "from", "to", "ALL", "--limit", "3").stdout == "3 messages moved\n"
    assert ctl("copy", "to", "from", "--limit", "2", "ALL").stdout == "2 messages copied\n"
    assert (waiting(ctl, "from"), waiting(ctl, "to")) == (3, 3)
    assert ctl("rm", "to", "nope").stdout == "0 messages dropped, not found: nope\n"
    assert ctl("purge", "to", "--dry-run").stdout == "3 messages would be dropped\n"
    assert ctl("purge", "to").stdout == "3 messages dropped\n"
    assert ctl("rm", "from", "ALL").stdout == "3 messages dropped\n"
    assert (waiting(ctl, "from"), waiting(ctl, "to")) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["purge", "nowhere"], 66, "there is no queue /queue/nowhere"),
        (["kick", "nobody"], 66, "there is no client"),
        (["rm", "DLQ"], 2, "say which messages: IDs, --reason, --origin, --header, or ALL"),
        (["rm", "DLQ", "ALL", "x"], 2, "ALL stands alone"),
        (["move", "a", "/queue/a", "ALL"], 65, "are the same queue"),
        (["log-level", "loud"], 2, "loud: not a choice; choose debug, info, warning or error"),
        (["send", "/queue/a", "b", "--header", "receipt:1"], 2, "receipt is a header that this command sets itself"),
        (["send", "/queue/a", "b", "--header", "destination:/queue/b"], 2, "leave it out"),
        (["import", os.devnull], 65, "this is no export of a broker, as it is not JSON"),
        (["show", "DLQ", "--reason", "bad"], 2, "bad: not a choice; choose rejected, deliveries"),
        (["top", "--sort", "size"], 2, "size: not a choice; choose waiting"),
        (["queues", "--filter", "full"], 2, "full: not a choice; choose waiting, stuck"),
        (["queues", "--offset", "10001"], 2, "10001: too large; give a number from 0 to 10000"),
        (["show", "DLQ", "--limit", "1001"], 65, "'limit' must be a whole number from 1 to 1,000"),
        (["health", "--warn", "age"], 2, "not a limit"),
        (["status", "--url", "localhost:1"], 69, "localhost:1: Connection refused"),
        (["status", "--url", "http://x"], 2, "write stomp://HOST:PORT"),
        (["status", "--passcode-file", "/nonexistent"], 66, "/nonexistent: No such file"),
        (["queues", "a", "b"], 2, "queues takes no further argument: 'b' is too much"),
    ],
)
def test_what_goes_wrong_has_a_sentence_and_a_status(ctl: Ctl, arguments: list[str], status: int, said: str) -> None:
    """On standard error, and nothing on standard output."""
    done = ctl(*arguments)

    assert (done.returncode, done.stdout) == (status, "")
    assert said in done.stderr and "Traceback" not in done.stderr


def test_health_says_what_monitoring_wants_to_know(ctl: Ctl, client: RawClient) -> None:
    """0, 1, 2; a broker that is not there is critical."""
    client.publish("/queue/sick", "1")
    assert (ctl("health").returncode, ctl("health").stdout[:4]) == (0, "OK: ")
    done = ctl("health", "--warn", "queue=sick,waiting=0")
    assert (done.returncode, done.stdout) == (1, "WARNING: /queue/sick: 1 waiting\n")
    done = ctl("health", "--warn", "waiting=0", "--critical", "queue=sic?,consumers=1")
    assert (done.returncode, done.stdout.startswith("CRITICAL: /queue/sick: 0 consumers; ")) == (2, True)
    assert ctl("health", "--url", "localhost:1").returncode == 2


def test_a_passcode_comes_from_a_file_or_the_environment(ctl: Ctl, tmp_path: Path) -> None:
    """A wrong one is status 77."""
    users = tmp_path / "users"
    subprocess.run([*COMMAND, "user", "add", "--users", str(users), "root"], input=b"secret\n", check=True)
    config = tmp_path / "forkbroker.toml"
    config.write_text(f'users = "{users}"\n[permissions.user.root]\nmonitor = "/control/>"\nread = "/>"\n')
    passcode = tmp_path / "passcode"
    passcode.write_text("secret\n")
    with RunningBroker("--config", str(config)) as broker:
        url = f"stomp://{broker.host}:{broker.port}"
        assert ctl("status", "--url", url, "--login", "root", "--passcode-file", str(passcode)).returncode == 0
        as_root = {"FORKBROKER_LOGIN": "root", "FORKBROKER_PASSCODE": "secret"}
        assert ctl("status", "--url", url, **as_root).returncode == 0
        done = ctl("kick", "ALL", "--url", url, **as_root)
        assert (done.returncode, "needs the right manage on /control/kick" in done.stderr) == (77, True)
        done = ctl("status", "--url", url, **{**as_root, "FORKBROKER_PASSCODE": "wrong"})
        assert (done.returncode, "login failed" in done.stderr) == (77, True)


def test_a_queue_that_is_held_delivers_nothing(ctl: Ctl, client: RawClient) -> None:
    """It takes messages; then all come in their order. A time ends the hold as well."""
    client.publish("/queue/held", "1")
    assert ctl("hold", "held").stdout == "/queue/held is held, 1 message waiting\n"
    client.subscribe("/queue/held", 1)
    client.publish("/queue/held", "2")
    client.expect_nothing()
    (row,) = rows(ctl("queues", "held", "--interval", "0", "--json"))
    assert (row["held"], row["waiting"]) == (True, 2)
    assert ctl("release", "held").stdout == "/queue/held is released, 2 messages waiting\n"
    client.expect_messages("1", "2")
    assert ctl("release", "held").returncode == 69

    assert ctl("hold", "held", "--for", "1s").returncode == 0
    client.publish("/queue/held", "3")
    client.expect_messages("3")


def test_delayed_messages_are_listed_let_come_and_dropped(ctl: Ctl, client: RawClient) -> None:
    """By their ids, or all."""
    for body in ("1", "2"):
        client.publish("/queue/later", body, x_delay="3600000", persistent="true")
    found = rows(ctl("schedule", "later", "--json"))
    assert [row["messages"] for row in found] == [1, 1] and 3500 < found[0]["due-in"] <= 3600
    client.subscribe("/queue/later", 1)
    assert ctl("schedule-run", "later", found[0]["id"]).stdout == "1 message let come now\n"
    client.expect_messages("1")
    assert ctl("schedule-cancel", "later", "ALL", "--dry-run").stdout == "1 message would be dropped\n"
    assert ctl("schedule-cancel", "later", "nope").returncode == 66
    assert ctl("schedule-cancel", "later", "ALL").stdout == "1 message dropped\n"
    assert rows(ctl("schedule", "later", "--json")) == []


def test_topics_are_listened_to(broker: RunningBroker, client: RawClient) -> None:
    """So many messages; a queue is not emptied by looking at it."""
    command = [*COMMAND, "tail", "/topic/news.*", "--count", "2", "--body", "--url", f"{broker.host}:{broker.port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail:
        wait_until(lambda: any("1 subscription" in title for _, title in broker.children()), "a subscription")
        while tail.poll() is None:
            client.publish("/topic/news.a", "some\x1bnews", k="v")
        said = tail.stdout.read() if tail.stdout is not None else ""

    assert said.count("/topic/news.a  9") == 2 and said.count("  some\\x1bnews") == 2 and "  k: v" in said


def test_the_frames_of_a_client_are_printed_as_they_come(ctl: Ctl, broker: RunningBroker, client: RawClient) -> None:
    """After so many the command ends; control characters do not reach the terminal."""
    command = [*COMMAND, "tail", client.address, "--count", "2", "--body", "--url", f"{broker.host}:{broker.port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
        assert tail.stderr is not None and tail.stdout is not None
        assert re.fullmatch(rf"client \d+ {client.address} alice: .* from now on\n", tail.stderr.readline())
        client.publish("/queue/tailed", "first\x1b line", colour="red")
        said = tail.stdout.read()

    assert tail.returncode == 0
    assert re.search(r"^[\d:.]{12} <- SEND  11\n", said)
    assert "  colour: red\n" in said and "\n  first\\x1b line\n" in said
    assert re.search(r"\n[\d:.]{12} -> RECEIPT  0\n  receipt-id: ", said)
    done = ctl("tail", "nobody")
    assert (done.returncode, "no client with the number, login or address 'nobody'" in done.stderr) == (66, True)


def test_queues_are_not_listened_to(ctl: Ctl) -> None:
    """That would take the messages away."""
    done = ctl("tail", "/queue/a")

    assert (done.returncode, "only topics" in done.stderr) == (2, True)
