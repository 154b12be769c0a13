"""The server of a bento's image, tested as a process."""

import http.client
import json
import re
import resource
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import httpx
import psutil
import pytest
from served import application, serving, started
from tiny import write_model

from loop.packaging.process import free_port
from loop.runtime import serve, settings

ROW = b'{"features":[1.0,0.0,-0.5]}'
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\n"
OFFER = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
EMPTY = dict.fromkeys((*settings.NAMES, "WEB_CONCURRENCY"), "")  # as if none of them were set
SLOW = """
import time
def load(folder):
    inner = booster.load(folder)
    def score(rows):
        time.sleep(0.02)
        return inner(rows)
    return score
"""


def connected(server):
    return socket.create_connection(("127.0.0.1", server.port), timeout=30)


def answered(connection):
    """Read one response; return its head and body, or two empty values if the connection is closed."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65536)
        if not part:
            return b"", b""
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = int(next(line for line in lines if line.startswith(b"content-length")).split()[1])
    while len(body) < length:
        body += connection.recv(65536)
    return head, body


def status(connection):
    return int(answered(connection)[0].split()[1])


def asked(connection):
    connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(ROW) + ROW)


def everything(connection, enough=lambda _: False):
    """Read until `enough` is true, or the server closes the connection; return what was read."""
    received = b""
    while not enough(received) and (part := connection.recv(65536)):
        received += part
    return received


def counts(server):
    """Return how many responses the server has counted, by path and status."""
    page = httpx.get(f"{server.url}/metrics", trust_env=False).text
    pattern = r'(?m)^bentoml_service_request_total\{endpoint="(.+?)",http_response_code="(\d+)".*\} (.+)$'
    return Counter({(path, int(code)): float(count) for path, code, count in re.findall(pattern, page)})


def predicted(server, **kwargs):
    return httpx.post(f"{server.url}/predict", content=ROW, trust_env=False, timeout=30, **kwargs)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The tiny model's server, ready. All tests share it, because no request may harm it.

    Its settings are empty, which means the same as not set.
    """
    source = write_model(tmp_path_factory.mktemp("server") / "src")
    application(source)
    with serving(source, free_port(), **EMPTY) as running:
        yield running


def test_bodies_in_pieces_and_cut_off(server):
    """A body in chunks or byte by byte is answered; a body that is cut off does not affect other requests."""
    for pieces in (
        [b"%x\r\n" % len(ROW) + ROW + b"\r\n0\r\n\r\n"],
        [b"5\r\n" + ROW[:5], b"\r\n%x\r\n" % len(ROW[5:]) + ROW[5:], b"\r\n0\r\n\r\n"],
    ):
        with connected(server) as connection:
            connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
            for piece in pieces:
                connection.sendall(piece)
            assert status(connection) == 200
    with connected(server) as connection:
        whole = HEAD + b"Content-Length: %d\r\n\r\n" % len(ROW) + ROW
        for position in range(len(whole)):
            connection.sendall(whole[position : position + 1])
        assert status(connection) == 200
    with connected(server) as connection:
        connection.sendall(HEAD + b"Content-Length: 500\r\n\r\n" + ROW)
    assert predicted(server).status_code == 200
    idle = re.compile(r"(?m)^model_requests_in_progress\{.*\} 0\.0$")
    while not idle.search(httpx.get(f"{server.url}/metrics", trust_env=False).text):
        time.sleep(0.01)  # requests that other tests cut off may still be in progress


def test_two_requests_at_once_on_one_connection(server):
    """Two pipelined requests are both answered, in order."""
    with connected(server) as connection:
        two = b"".join(
            HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body
            for body in (ROW[:-1] + b',"id":1}', ROW[:-1] + b',"id":2}')
        )
        connection.sendall(two)
        received = b""
        while received.count(b'"id":') < 2:
            received += connection.recv(65536)
    assert received.index(b'"id":1') < received.index(b'"id":2')


WHOLE = b"Content-Length: %d\r\n\r\n" % len(ROW) + ROW
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
REFUSED = {
    "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", [("other", 400)]),
    "HTTP/2 at once": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [("other", 400)]),
    "a way through": (b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n", [("other", 400)]),
    "two lengths": (HEAD + b"Content-Length: 9\r\nContent-Length: 10\r\n\r\n", [("other", 400)]),
    "over the limit": (
        HEAD + b"Connection: close\r\nContent-Length: 3000000\r\n\r\n" + b" " * 3_000_000,
        [("/predict", 413)],
    ),
    "no chunk": (HEAD + CHUNKED + b"x\r\n", [("/predict", 400)]),
    "no chunk of V2": (
        b"POST /v2/models/card-fraud/infer HTTP/1.1\r\nHost: x\r\n" + CHUNKED + b"x\r\n",
        [("/predict", 400)],
    ),
    "a long head": (HEAD + b"A: " + b"a" * 70_000 + b"\r\n" + WHOLE, [("other", 431)]),
    "many fields": (HEAD + b"A: a\r\n" * 300 + WHOLE, [("other", 431)]),
    "after a good one": (HEAD + WHOLE + b"\x16\x03\x01\r\n", [("/predict", 200), ("other", 400)]),
    "after two": (
        (HEAD + WHOLE) * 2 + HEAD + CHUNKED + b"x",
        [("/predict", 200), ("/predict", 200), ("/predict", 400)],
    ),
}


@pytest.mark.parametrize(("sent", "answers"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_request_is_refused_and_counted(server, sent, answers):
    """The sender gets the responses to its earlier requests, then a 4xx in JSON; each response is counted."""
    before = counts(server)
    with connected(server) as connection:
        connection.sendall(sent)
        received = everything(connection)
    assert [int(code) for code in re.findall(rb"HTTP/1.1 (\d+)", received)] == [code for _, code in answers]
    assert json.loads(received.rpartition(b"\r\n\r\n")[2])["error"]
    assert counts(server) - before - Counter({("/metrics", 200): 1}) == Counter(answers)


def test_a_body_that_is_refused_may_be_sent_to_its_end(server):
    """A client that sends everything before it reads gets a 413, not a reset; the memory does not grow."""
    resident = server.resident()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for body in (b" " * 50_000_000, iter([b" " * 1_000_000] * 50)):  # by length, and in chunks
        connection.request("POST", "/predict", body)
        with connection.getresponse() as answer:
            assert (answer.status, answer.headers["connection"]) == (413, None)
            answer.read()  # otherwise the next response would begin with it
    assert server.resident() - resident < 10_000_000


def test_a_body_that_is_too_large_is_not_asked_for(server):
    """A client that expects a 100 before it sends the body gets a 413 instead."""
    with connected(server) as connection:
        connection.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 3000000\r\n\r\n")
        assert status(connection) == 413


@pytest.mark.parametrize(
    "sent",
    [
        [OFFER + WHOLE],
        [OFFER + CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(ROW), ROW)],
        [OFFER[:-9], OFFER[-9:] + WHOLE[:9], WHOLE[9:-3], WHOLE[-3:]],
        [OFFER.replace(b"Upgrade,", b"close, Upgrade,") + WHOLE],
        [b"Connection: Upgrade\r\nUpgrade: websocket\r\n" + WHOLE],
        [(OFFER + WHOLE + HEAD) * 3 + WHOLE],
    ],
    ids=["length", "chunks", "pieces", "close", "websocket", "ahead"],
)
def test_an_offer_of_another_protocol_is_passed_over(server, sent):
    """A request that offers another protocol, as the first of Java's HttpClient, is answered by HTTP/1.1."""
    with connected(server) as connection:
        for piece in (HEAD, *sent):
            connection.sendall(piece)
        asked_for = b"".join(sent).count(b"features")
        received = everything(connection, lambda got: got.count(b"model_version") == asked_for)
    assert received.count(b"HTTP/1.1 ") == received.count(b"HTTP/1.1 200") == asked_for


def test_the_callers_id_of_a_request_comes_back(server):
    """The response has the caller's X-Request-ID, or a new one if that is missing or too long."""
    assert predicted(server, headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    made = {predicted(server).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    assert predicted(server, headers={"x-request-id": "x" * 500}).headers["x-request-id"] != "x" * 500


def test_a_thousand_idle_connections_keep_nobody_waiting(server):
    """Requests are answered beside 1,000 idle connections; a head that does not end gets a 408."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 4096), most))
    with ExitStack() as stack:
        idle = [stack.enter_context(connected(server)) for _ in range(1000)]
        for connection in idle[::2]:
            connection.sendall(HEAD)
        used = stack.enter_context(connected(server))
        asked(used)
        assert status(used) == 200
        assert {predicted(server).status_code for _ in range(100)} == {200}
        assert [connection.recv(12) for connection in (idle[0], idle[-1])] == [b"HTTP/1.1 408", b""]
        asked(used)  # a connection that was used may be idle for longer than one without a request
        assert status(used) == 200
    assert predicted(server).status_code == 200


def test_ten_thousand_requests_while_every_server_is_replaced(alone, port):
    """Two servers are stopped and started again in turn under load, as in a rollout: no request is lost."""
    application(alone)
    ports, ready, each = (port, free_port()), {0: True, 1: True}, 1250
    statuses = []

    def ask(number):
        """Send `each` requests over kept connections to a server that is ready, as the gateway does."""
        connection, left = None, each
        while left:
            if connection is None:
                server = servers[(number := number + 1) % 2 if all(ready.values()) else int(ready[1])]
                try:
                    connection = connected(server)
                except ConnectionRefusedError:  # it has stopped meanwhile: nothing was sent, so try again
                    continue
            asked(connection)
            head, _ = answered(connection)
            statuses.append(head[:12])
            left -= 1
            if b"connection: close" in head:
                connection.close()
                connection = None

    with ExitStack() as stack, ThreadPoolExecutor(8) as threads:
        servers = [stack.enter_context(serving(alone, at)) for at in ports]
        asking = [threads.submit(ask, number) for number in range(8)]
        for place in (0, 1):
            while len(statuses) < (place + 1) * each * 8 // 4:
                time.sleep(0.001)
            ready[place] = False  # first no new connections, then SIGTERM, as with a pod's preStop
            time.sleep(0.1)
            servers[place].terminate()
            assert servers[place].process.wait(30) == 0
            servers[place] = stack.enter_context(serving(alone, ports[place]))
            ready[place] = True
        for done in asking:
            done.result()
    assert statuses == [b"HTTP/1.1 200"] * 10_000


BROKEN = {
    "missing": lambda model: model.unlink(),
    "truncated": lambda model: model.write_bytes(model.read_bytes()[:100]),
    "empty": lambda model: model.write_bytes(b""),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_model_that_is_not_whole_does_not_start(alone, port, broken):
    """The process exits with an error at the start, before it answers requests."""
    application(alone)
    broken(alone / "model" / "model.ubj")
    with started(alone, port) as server:
        assert server.process.wait(60) == 3
    assert "Error" in server.output()


def test_an_app_that_cannot_be_imported_ends_the_server(alone, port):
    """It exits at once with one line that says why and where; the kubelet restarts it with growing delays."""
    asgi = alone / "asgi.py"
    asgi.write_text("import nothing_of_this_name\n")
    with started(alone, port) as server:
        assert server.process.wait(60) == 1
    assert server.output() == (
        f"{asgi} does not provide `application`: "
        f"ModuleNotFoundError: No module named 'nothing_of_this_name' at {asgi}:1\n"
    )


def test_a_wrong_setting_ends_the_server_before_it_listens(alone, port):
    """It exits with one line that has name, value and rule, although the app could serve."""
    application(alone)
    with started(alone, port, PREDICTION_LOG_DAYS="0") as server:
        assert server.process.wait(60) == 1
    said = "PREDICTION_LOG_DAYS is '0': Expected `float` >= 1.0 - at `$.PREDICTION_LOG_DAYS`\n"
    assert server.output() == said


def test_a_port_that_is_taken_is_said_in_one_line(alone, port):
    """The line names host and port, and has the system's error."""
    application(alone)
    with socket.create_server(("127.0.0.1", port)), started(alone, port) as server:
        assert server.process.wait(60) == 1
    assert server.output().startswith(f"cannot listen at --host 127.0.0.1 --port {port}: ")
    assert server.output().count("\n") == 1


@pytest.mark.parametrize("host", [serve.EVERY, "127.0.0.1", "::1"])
def test_a_pod_is_reached_at_its_address_of_either_family(host, port):
    """The default host listens on IPv4 and IPv6, because a cluster may give pods only IPv6 addresses."""
    with serve.listen(host, port):
        for address in ("127.0.0.1", "::1") if host == serve.EVERY else (host,):
            socket.create_connection((address, port), 5).close()


def test_a_kernel_without_ipv6_serves_ipv4(port, monkeypatch):
    """With ipv6.disable=1 no IPv6 socket can be made, so the server listens on IPv4 alone."""
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with serve.listen(serve.EVERY, port) as listening:
        assert listening.family == socket.AF_INET
        socket.create_connection(("127.0.0.1", port), 5).close()


def test_a_full_disk_under_the_log_costs_no_answer(alone, port):
    """Requests are still answered, and the lost lines are counted as dropped."""
    application(alone)
    log = alone.parent / "log"
    log.mkdir()
    env = {"PREDICTION_LOG_DIR": str(log)}
    with serving(alone, port, **env) as server:
        (log / f"{socket.gethostname()}-{server.process.pid}.jsonl").symlink_to("/dev/full")
        assert predicted(server).status_code == 200
        while (
            "model_prediction_log_dropped_total"
            not in httpx.get(f"{server.url}/metrics", trust_env=False).text
        ):
            assert predicted(server).status_code == 200


def test_memory_does_not_grow_with_requests(alone, port):
    """With 10,000 more logged predictions, the memory grows by less than 100 bytes for each."""
    application(alone)
    request = HEAD + b"Content-Length: %d\r\n\r\n" % len(ROW) + ROW

    def load(requests):
        """Send requests and return the memory in bytes, once no log line waits in it any more."""
        for _ in range(requests // 50):
            connection.sendall(request * 50)
            everything(connection, lambda got: got.count(b"model_version") == 50)
        sent.append(requests)
        while sum(path.read_bytes().count(b"\n") for path in log.glob("*.jsonl")) < sum(sent):
            time.sleep(0.01)
        return psutil.Process(server.process.pid).memory_full_info().uss

    log, sent = alone.parent / "log", []
    with serving(alone, port, PREDICTION_LOG_DIR=str(log)) as server, connected(server) as connection:
        before = load(5_000)
        grown = load(10_000) - before
    assert grown < 1_000_000


def test_a_term_under_load_loses_nothing(alone, port):
    """Each accepted request is answered and logged; /readyz gives a 503 until the server has stopped."""
    application(alone, scorer=SLOW, load="load")
    log, taken = alone.parent / "log", []

    def ask(server):
        """Send requests over kept connections until none is accepted; return the number of responses."""
        count = 0
        while True:
            try:
                connection = connected(server)
                asked(connection)
                head, _ = answered(connection)
            except OSError:
                return count
            if not head:  # the connection was in the queue of a socket that was closed: never accepted
                return count
            with connection:
                while True:
                    assert head.startswith(b"HTTP/1.1 200"), head
                    count += 1
                    taken.append(1)
                    if b"connection: close" in head:
                        break
                    asked(connection)
                    head, _ = answered(connection)

    with serving(alone, port, PREDICTION_LOG_DIR=str(log)) as server, ThreadPoolExecutor(8) as threads:
        counts = [threads.submit(ask, server) for _ in range(8)]
        while len(taken) < 200:
            time.sleep(0.01)
        with connected(server) as probe:
            server.terminate()
            head = b"HTTP/1.1 200"
            while head.startswith(b"HTTP/1.1 200"):
                probe.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
                head, _ = answered(probe)
            assert head.startswith(b"HTTP/1.1 503")
        answers = sum(count.result() for count in counts)
        assert server.process.wait(30) == 0
    lines = [line for path in log.glob("*.jsonl") for line in path.read_text().splitlines()]
    assert len(lines) == answers
    assert all(json.loads(line)["features"] == [1.0, 0.0, -0.5] for line in lines)


@pytest.mark.parametrize(
    "endless",
    [
        (b"GET /health HTTP/1.1\r\nHost: x\r\n", b"a:b\r\n"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\na: ", b"a"),
        (b"GET /", b"a"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\na: ", b"a"),
        (b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"),
    ],
    ids=["headers", "header", "url", "trailer", "requests"],
)
def test_what_is_endless_beside_a_body_is_cut_off(server, endless):
    """Endless heads, trailers and requests are cut off: 100 MB of headers would take 2.5 GB of memory."""
    begin, more = endless
    refused = b"HTTP/1.1 431" if begin else b"HTTP/1.1 400"
    with connected(server) as connection:
        connection.sendall(begin + more * (100_000 // len(more)))
        assert refused in everything(connection, lambda got: refused in got)
        with pytest.raises(ConnectionError):
            for _ in range(100):
                connection.sendall(more * (262144 // len(more)))
                time.sleep(0.01)
    assert predicted(server).status_code == 200


def test_a_few_requests_ahead_are_answered(server):
    """Requests that are sent before the previous response are answered in order, even with long headers."""
    head = HEAD + b"A: " + b"a" * 30_000 + b"\r\nContent-Length: %d\r\n\r\n" % len(ROW)
    with connected(server) as connection:
        connection.sendall((head + ROW) * 10)
        answers = everything(connection, lambda got: got.count(b"model_version") == 10)
    assert answers.count(b" 200 OK") == 10


HASTY = """
import sys
import time

limits = sys.modules["__main__"]  # loop.runtime.serve
limits.TICKS, limits.HEAD_SECONDS, limits.KEPT = 1, 1, 7

def load(folder):
    inner = booster.load(folder)
    def score(rows):
        if rows[0, 0] == 7:
            time.sleep(2)
        return inner(rows)
    return score
"""
# 65 rows, because more than 64 rows are scored in a thread
SLOW_ROWS = b'{"features":[%s]}' % b",".join([b"[7,0,0]"] * 65)
SCORED_SLOWLY = HEAD + b"Content-Length: %d\r\n\r\n" % len(SLOW_ROWS) + SLOW_ROWS
# what is sent, each part once the one before is answered, and the answers
STALLED = {
    "nothing": ([], []),
    "half a head": ([HEAD], [408]),
    "no body": ([HEAD + WHOLE[: -len(ROW)]], [408]),
    "no chunk": ([HEAD + CHUNKED], [408]),
    "no body of a second request": ([HEAD + WHOLE, HEAD + CHUNKED], [200, 408]),
    "no body after an offer": ([HEAD + OFFER + CHUNKED], [408]),
    "a blank line at the end": ([HEAD + WHOLE, b"\r\n"], [200]),
    "a body after its answer": ([b"GET /health HTTP/1.1\r\nContent-Length: 2\r\n\r\n", b"{}"], [200]),
    "half a head after a slow answer": ([SCORED_SLOWLY + HEAD + WHOLE + HEAD], [200, 200, 408]),
    "a body after a slow answer": ([SCORED_SLOWLY + HEAD + WHOLE[: -len(ROW)], ROW], [200, 200]),
}


def test_who_stops_sending_or_reading_is_let_go(alone, port):
    """A client that stops sending or reading is disconnected; it gets its answers, and any 408 due."""
    application(alone, scorer=HASTY, load="load")
    rows = b'{"features":[%s]}' % b",".join([b"[1,0,1]"] * 1000)
    with serving(alone, port) as server, ExitStack() as stack:
        deaf = stack.enter_context(socket.socket())
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        deaf.connect(("127.0.0.1", port))
        deaf.settimeout(0.5)
        with suppress(TimeoutError):
            for _ in range(200):
                deaf.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(rows) + rows)

        def answers(sent):
            with connected(server) as connection:
                received = b""
                for number, part in enumerate(sent):
                    connection.sendall(part)
                    if number < len(sent) - 1:
                        received += b"".join(answered(connection))
                received += everything(connection)
            return [int(code) for code in re.findall(rb"(?i)HTTP/1.1 (\d+)", received)]

        with ThreadPoolExecutor(len(STALLED)) as threads:
            found = list(threads.map(answers, [sent for sent, _ in STALLED.values()]))
        assert dict(zip(STALLED, found, strict=True)) == {name: told for name, (_, told) in STALLED.items()}
        process, end = psutil.Process(server.process.pid), time.monotonic() + 10
        while any(each.laddr.port == port and each.raddr for each in process.net_connections()):
            assert time.monotonic() < end
            time.sleep(0.1)


MIDDLEWARE = """
from contextvars import ContextVar
from starlette.middleware.base import BaseHTTPMiddleware

caller = ContextVar("caller", default="nobody")

class Noting(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        before = caller.get()
        if name := request.headers.get("caller"):
            caller.set(name)
        response = await call_next(request)
        response.headers["before"] = before
        return response

application.add_middleware(Noting)
"""


@pytest.fixture(scope="module")
def behind(tmp_path_factory):
    """The tiny model's server, ready, with a middleware."""
    source = write_model(tmp_path_factory.mktemp("behind") / "src")
    application(source)
    with (source / "asgi.py").open("a") as asgi:
        asgi.write(MIDDLEWARE)
    with serving(source, free_port()) as running:
        yield running


def test_who_hangs_up_behind_a_middleware_is_no_failure(behind):
    """A request that is cut off, or refused within its body, is neither counted nor logged as a failure."""
    before = counts(behind)
    for _ in range(20):
        with connected(behind) as connection:
            connection.sendall(HEAD + b"Content-Length: 500\r\n\r\n" + ROW)
    with connected(behind) as connection:
        connection.sendall(HEAD + CHUNKED + b"x\r\n")
        assert status(connection) == 400
    assert predicted(behind).status_code == 200
    counted = Counter({("/predict", 400): 1, ("/predict", 200): 1, ("/metrics", 200): 1})
    assert counts(behind) - before == counted
    assert not behind.output()


def test_what_a_middleware_notes_of_a_request_is_not_seen_by_the_next(behind):
    """Each request has a context of its own, also if its connection sends it before the last one's answer."""
    with connected(behind) as connection:
        connection.sendall(HEAD + b"Caller: a\r\n" + WHOLE + HEAD + WHOLE)
        received = everything(connection, lambda got: got.count(b"model_version") == 2)
    assert re.findall(rb"before: (\w+)", received) == [b"nobody", b"nobody"]


def test_who_hangs_up_early_leaves_no_trace(server):
    """A client that disconnects before its response causes no error and no traceback in the log."""
    many = b'{"features":[%s]}' % b",".join([b"[1,0,1]"] * 1000)
    for _ in range(20):
        with connected(server) as connection:
            connection.sendall((HEAD + b"Content-Length: %d\r\n\r\n" % len(many) + many) * 8)
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert predicted(server).status_code == 200
    assert "Traceback" not in server.output()
