"""The server: who is answered, with what, and where it listens."""

from __future__ import annotations

import gc
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from dashboards.app import create_app
from dashboards.figures import FIGURES
from dashboards.pages import PAGES
from dashboards.server import (
    CALLBACK,
    COOKIE,
    LOOPBACK,
    MOST_BODY_BYTES,
    Pages,
    ServeError,
    is_loopback,
)

from .serving import Browser, read

TOKEN = "the-right-token"
FOREIGN = (
    "http://evil.example", "https://evil.example:8050", "null", "", "http://[", "evil",
    "http://localhost.evil.example", "http://localhost@evil.example", "http://localhost:1234",
    "javascript:alert(1)", "file://", "http://127.0.0.1",
)  # fmt: skip
# Each with the status that it is answered with.
ANSWERS = [
    ("GET", "/", 200), ("GET", "/compare?before=1", 200), ("GET", "/nothing/here", 200),
    ("GET", "/_dash-layout", 200), ("GET", "/_dash-dependencies", 200),
    ("GET", "/assets/pages.js", 200), ("GET", "/assets/style.css", 200),
    ("GET", "/_favicon.ico", 200), ("HEAD", "/", 200), ("OPTIONS", "/", 200),
    ("GET", "/assets/nothing.js", 404), ("GET", "/static/nothing", 404),
    ("GET", "/_dash-component-suites/nothing/x.js", 404),
    ("GET", "/_dash-component-suites/dash/nothing.js", 404),
    ("POST", "/", 405), ("PUT", "/", 405), ("DELETE", "/_dash-layout", 405),
    ("POST", CALLBACK, 400), ("GET", CALLBACK, 400), ("GET", "/broken", 500),
]  # fmt: skip


@pytest.fixture(scope="module")
def ours(tiny):
    """Pages among which one is broken."""
    ours = Browser(tiny)

    @ours.app.server.get("/broken")
    def broken():
        raise RuntimeError("what happened inside, in /a/path")

    return ours


@pytest.fixture(scope="module")
def closed(tiny):
    """Pages for those alone who know the token."""
    return Browser(tiny, token=TOKEN)


@contextmanager
def served(path, host="127.0.0.1"):
    """Where the pages of a store are served, by waitress."""
    pages = Pages(create_app(read(path, keep=False)), host, 0)
    thread = threading.Thread(target=pages.serve, daemon=True)
    thread.start()
    try:
        yield urlsplit(pages.address)
    finally:
        pages.server.trigger.pull_trigger(pages.server.close)  # in its own thread
        thread.join(timeout=20)


@pytest.fixture(scope="module")
def address(tiny):
    with served(tiny) as address:
        yield address


def asked(address, method, path, body=None, **headers):
    """The status, headers and text of a real server's answer."""
    connection = HTTPConnection(address.hostname, address.port, timeout=60)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read().decode()
    finally:
        connection.close()


def policy_of(response):
    parts = response.headers["Content-Security-Policy"].split("; ")
    return {name: set(values) for name, *values in map(str.split, parts)}


# Headers


@pytest.mark.parametrize(("method", "path", "status"), ANSWERS)
def test_every_answer_has_the_headers_that_protect_it(method, path, status, ours):
    with ours.client.open(path, method=method) as response:
        policy = policy_of(response)

        assert response.status_code == status
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Referrer-Policy"] == "no-referrer"
        assert policy["frame-ancestors"] == {"'none'"}
        assert policy["default-src"] == {"'self'"}
        assert "Access-Control-Allow-Origin" not in response.headers
        response.get_data()


@pytest.mark.parametrize(
    "headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Host": ""}]
)
def test_a_refusal_has_the_same_headers(headers, ours):
    response = ours.get("/", headers=headers)

    assert response.status_code in (400, 403)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert policy_of(response)["frame-ancestors"] == {"'none'"}


def test_scripts_are_ours_alone(ours):
    scripts = policy_of(ours.get("/"))["script-src"]

    assert "'self'" in scripts
    assert all(each == "'self'" or each.startswith("'sha256-") for each in scripts)


@pytest.mark.parametrize("name", ["object-src", "base-uri", "form-action"])
def test_pages_may_not_do_what_they_never_do(name, ours):
    assert policy_of(ours.get("/"))[name] == {"'none'"}


@pytest.mark.parametrize("path", ["/", "/_dash-layout"])
def test_no_browser_keeps_what_stores_hold(path, ours):
    assert ours.get(path).headers["Cache-Control"] == "no-store"


def test_an_answer_of_a_callback_is_no_page(ours):
    response = ours.post(ours.body("notes"))

    assert response.mimetype == "application/json"
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(("method", "path", "status"), [each for each in ANSWERS if each[2] >= 400])
def test_an_error_is_one_line_of_text(method, path, status, ours):
    with ours.client.open(path, method=method) as response:
        assert response.mimetype == "text/plain"
        assert len(response.text.splitlines()) == 1


def test_what_happened_inside_is_told_to_the_terminal_alone(ours, caplog):
    text = ours.get("/broken").text

    assert text == "This page could not be made; the terminal says why.\n"
    assert "what happened inside" in caplog.text


# Hosts and origins


@pytest.mark.parametrize("host", [*LOOPBACK, *(f"{host}:8050" for host in LOOPBACK), "LOCALHOST"])
def test_this_machine_is_answered_by_all_of_its_names(host, ours):
    assert ours.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/_dash-layout", "/assets/pages.js", "/nothing"])
@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8050", "localhost.evil.example", "127.0.0.1.evil.example", "",
     "127.0.0.2", "[::2]", "localhost:evil.example", "localhost:1:2", "x" * 5_000, "[", " "],
)  # fmt: skip
def test_a_host_that_is_not_ours_is_refused(host, path, ours):
    assert ours.get(path, headers={"Host": host}).status_code == 400


def test_a_callback_for_a_host_that_is_not_ours_is_refused(ours):
    body = ours.body("notes")

    assert ours.post(body, headers={"Host": "evil.example"}).status_code == 400
    assert ours.post(body).status_code == 200


@pytest.mark.parametrize("origin", FOREIGN)
def test_a_question_of_another_site_s_page_is_refused(origin, ours):
    response = ours.post(ours.body("notes"), headers={"Origin": origin})

    assert response.status_code == 403
    assert len(response.text.splitlines()) == 1


@pytest.mark.parametrize("origin", ["http://127.0.0.1", "http://localhost:80", "http://[::1]:1"])
def test_another_name_or_port_of_this_machine_is_another_site(origin, ours):
    body, headers = ours.body("notes"), {"Host": "localhost:8050", "Origin": origin}

    assert ours.post(body, headers=headers).status_code == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:8050", "127.0.0.1:8050", "[::1]:8050"])
def test_a_question_of_our_own_page_is_answered(host, ours):
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}

    assert ours.post(ours.body("notes"), headers=headers).status_code == 200


def test_what_a_browser_calls_cross_site_is_refused(ours):
    headers = {"Sec-Fetch-Site": "cross-site"}

    assert ours.post(ours.body("notes"), headers=headers).status_code == 403
    assert ours.get("/", headers=headers).status_code == 200  # a link in a mail may lead here


# The token


@pytest.mark.parametrize("path", [each[1] for each in ANSWERS if each[0] == "GET"])
def test_nothing_is_answered_without_the_token(path, closed):
    assert closed.get(path).status_code == 403


def test_no_callback_is_answered_without_the_token(closed):
    response = closed.post(closed.body("notes"))

    assert response.status_code == 403
    assert len(response.text.splitlines()) == 1


@pytest.mark.parametrize(
    "token", ["", "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\u00e4", "\x00", "x" * 10_000]
)
def test_a_wrong_token_is_refused(token, closed):
    assert closed.get("/", query_string={"token": token}).status_code == 403
    assert closed.get("/", headers={"Cookie": f"{COOKIE}=wrong{len(token)}"}).status_code == 403


def test_the_right_token_becomes_a_cookie_and_leaves_the_address(closed):
    response = closed.get("/compare", query_string={"token": TOKEN})
    cookie = response.headers["Set-Cookie"]

    assert response.status_code == 302
    assert response.headers["Location"] == "/compare"
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert closed.get("/_dash-layout", headers={"Cookie": cookie.partition(";")[0]}).json
    closed.client.delete_cookie(COOKIE)


@pytest.mark.parametrize("path", ["//evil.example/", "/\\evil.example/", "///evil.example"])
def test_the_way_from_the_token_leads_to_these_pages_alone(path, closed):
    environ = {"PATH_INFO": path, "QUERY_STRING": f"token={TOKEN}"}
    response = closed.client.get("/", environ_overrides=environ)
    closed.client.delete_cookie(COOKIE)

    assert response.headers["Location"] in ("/evil.example/", "/evil.example")


# The real server


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_it_listens_at_a_free_port_and_answers(host, tiny):
    with served(tiny, host) as address:
        status, headers, text = asked(address, "GET", "/")

    assert address.query == ""  # no token for this machine
    assert (status, headers["X-Content-Type-Options"]) == (200, "nosniff")
    assert "react-entry-point" in text


def test_an_address_of_another_machine_s_has_a_token(tiny):
    with served(tiny, "0.0.0.0") as address:
        own = address._replace(netloc=f"127.0.0.1:{address.port}")

        assert len(address.query) > len("token=") + 20
        assert asked(own, "GET", "/")[0] == 403
        assert asked(own, "GET", f"/?{address.query}")[0] == 302


def test_fifty_questions_at_once_are_all_answered(address, ours):
    questions = [ours.body("graph", name, search=f"?x={name}") for name in FIGURES]
    questions += [ours.body("page", pathname=path) for path in PAGES]
    bodies = [json.dumps(each) for each in (questions * 50)[:50]]
    kind = {"Content-Type": "application/json"}

    with ThreadPoolExecutor(50) as pool:
        answers = list(
            pool.map(lambda body: asked(address, "POST", CALLBACK, body, **kind), bodies)
        )

    assert [status for status, _, _ in answers] == [200] * 50
    for body, (_, _, text) in zip(bodies, answers, strict=True):
        wanted = json.loads(body)["outputs"]
        own = (wanted if isinstance(wanted, list) else [wanted])[0]["id"]
        answered = next(iter(json.loads(text)["response"]))
        assert (json.loads(answered) if isinstance(own, dict) else answered) == own


def test_a_body_that_is_too_long_is_refused_and_others_are_answered(address):
    with socket.create_connection((address.hostname, address.port), timeout=60) as sent:
        head = (
            f"POST {CALLBACK} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {10 * 2**20}\r\n\r\n"
        )
        sent.sendall(head.encode())
        answer = sent.recv(1000).decode()

    assert answer.startswith("HTTP/1.1 413")
    assert "Traceback" not in answer
    assert asked(address, "GET", "/")[0] == 200


@pytest.mark.parametrize(
    "head",
    [b"GET /" + b"x" * 2 * 2**20 + b" HTTP/1.1\r\n\r\n", b"\x00\xff\r\n\r\n",
     b"GET / HTTP/9\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
     b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
     b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_request_is_refused_and_others_are_answered(head, address):
    with socket.create_connection((address.hostname, address.port), timeout=60) as sent:
        try:
            sent.sendall(head)
            answer = sent.recv(1000).decode()
        except OSError:  # it may hang up while we talk
            answer = "HTTP/1.1 4"

    assert answer.startswith(("HTTP/1.1 4", "HTTP/1.0 4")), answer
    assert "Traceback" not in answer
    assert asked(address, "GET", "/")[0] == 200


@pytest.fixture
def left_to_python():
    """Waitress closes no socket that it could not bind."""
    yield
    gc.collect()


@pytest.mark.usefixtures("left_to_python")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_port_that_is_taken_is_refused_in_one_line(tiny):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ServeError, match=f"127.0.0.1:{port} can't be listened at: .* --port"):
            Pages(create_app(read(tiny, keep=False)), "127.0.0.1", port)


@pytest.mark.usefixtures("left_to_python")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("host", ["no.such.host.invalid", "127.0.0.1:80", "256.1.1.1", "192.0.2.1"])
def test_an_address_that_is_not_this_machine_s_is_refused_in_one_line(host, tiny):
    with pytest.raises(ServeError) as refused:
        Pages(create_app(read(tiny, keep=False)), host, 0)

    assert host in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_some_addresses_are_this_machine_s_alone(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["", "0.0.0.0", "::", "192.168.0.1", "127.evil.example", "localhost.evil.example"]
)
def test_all_other_addresses_are_not(host):
    assert not is_loopback(host)


def test_what_may_be_sent_is_far_less_than_memory():
    assert MOST_BODY_BYTES <= 2**20
