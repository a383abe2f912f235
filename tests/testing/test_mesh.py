"""What a mesh for tests is: real sidecars, a clock of its own, decisions told, and nothing left of it."""

from __future__ import annotations

import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio

from meshproxy.runtime.grants import Grants
from meshproxy.runtime.stations import Stations
from meshproxy.testing import Limits, Mesh, MeshError, Place
from tests.testing.conftest import get

WEB = '[[allow]]\nname = "web"\nfrom = "/web"\n'
READS = WEB + 'paths = ["/orders/**"]\n'
UNTIL_2030 = WEB + "expires = 2030-01-01\n"


def read_to_end(sock: socket.socket) -> bytes:
    try:
        return b"".join(iter(lambda: sock.recv(1024), b""))
    except ConnectionError:
        return b"reset"


def test_who_is_granted_is_served_and_who_is_not_is_told_no(mesh: Mesh, service: int) -> None:
    mesh.serve("/orders", forward=service, policy=READS)
    web, shop = mesh.call("/web", to="/orders"), mesh.call("/shop", to="/orders")
    assert get(web, "/orders/7?x=1") == (200, "spiffe://mesh.test/web")
    assert get(web, "/admin")[0] == 403
    assert get(shop, "/orders/7")[0] == 403
    first, second, third = mesh.decisions()
    assert (first.service, first.caller, first.method, first.path) == ("/orders", "/web", "GET", "/orders/7")
    assert (first.allowed, first.rule, first.reason) == (True, "web", "granted")
    assert [(each.caller, each.allowed, each.rule, each.reason) for each in (second, third)] == [
        ("/web", False, "", "path"),
        ("/shop", False, "", "no_rule"),
    ]
    assert str(third) == "/orders: /shop GET /orders/7: deny (no_rule, the allow-list of the test@1)"
    (denied, _) = mesh.events("denied")
    assert (denied["sidecar"], denied["level"], denied["path"]) == ("/orders", "warning", "/admin")


def test_what_no_rule_grants_passes_in_audit_mode_and_is_told(mesh: Mesh, service: int) -> None:
    mesh.serve("/orders", forward=("127.0.0.1", service), policy="allow = []", mode="audit")
    assert get(mesh.call("/web", to="/orders"), "/")[0] == 200
    (decision,) = mesh.decisions()
    assert (decision.outcome, decision.allowed) == ("would_deny", False)


def test_a_connection_is_let_through_or_reset_without_a_byte(mesh: Mesh, echo: int) -> None:
    mesh.serve("/ledger", forward=f"127.0.0.1:{echo}", policy=WEB, protocol="tcp")
    with socket.create_connection(mesh.call("/web", to="/ledger"), timeout=10) as web:
        web.sendall(b"hello")
        assert web.recv(5) == b"hello"
        web.shutdown(socket.SHUT_WR)
        assert read_to_end(web) == b""
    with socket.create_connection(mesh.call("/shop", to="/ledger"), timeout=10) as shop:
        assert read_to_end(shop) == b"reset"
    decided = {(each.caller, each.allowed, each.path) for each in mesh.decisions(at_least=2)}
    assert decided == {("/web", True, ""), ("/shop", False, "")}


def test_a_service_may_be_in_front_of_others_and_each_pair_has_one_place(mesh: Mesh, service: int) -> None:
    orders = mesh.serve("/team/orders", forward=service, policy=WEB)
    ledger = mesh.serve("/team-orders", forward=service, policy='[[allow]]\nfrom = "/team/orders"\n')
    assert orders != ledger
    assert get(mesh.call("/team/orders", to="/team-orders"), "/") == (200, "spiffe://mesh.test/team/orders")
    assert mesh.call("/web", to="/team/orders") == mesh.call("/web", to="/team/orders")
    assert mesh.call("/web", to="/team/orders") != mesh.call("/web", to="/team-orders")


def test_a_grant_ends_when_the_clock_says_so_and_begins_again_when_it_is_put_back(mesh: Mesh, service: int) -> None:
    mesh.clock.set(datetime(2029, 12, 31, 23, tzinfo=UTC))
    mesh.serve("/orders", forward=service, policy=UNTIL_2030)
    web = mesh.call("/web", to="/orders")
    assert get(web, "/")[0] == 200
    mesh.clock.advance(hours=1)
    assert get(web, "/")[0] == 403
    assert mesh.decisions()[-1].reason == "expired_grant"
    mesh.clock.set(datetime(2012, 1, 1, tzinfo=UTC))
    assert get(web, "/")[0] == 200


def test_an_open_connection_ends_with_its_grant(mesh: Mesh, echo: int) -> None:
    mesh.clock.set(datetime(2029, 12, 31, tzinfo=UTC))
    mesh.serve("/ledger", forward=echo, policy=UNTIL_2030, protocol="tcp")
    with socket.create_connection(mesh.call("/web", to="/ledger"), timeout=10) as web:
        web.sendall(b"hello")
        assert web.recv(5) == b"hello"
        mesh.clock.advance(days=1)
        assert read_to_end(web) == b"reset"


def test_a_certificate_ends_when_the_clock_says_so_and_the_next_heals(mesh: Mesh, service: int) -> None:
    mesh.serve("/orders", forward=service, policy=WEB)
    web = mesh.call("/web", to="/orders")
    assert mesh.issue("/web", ttl=timedelta(hours=1)).is_dir()
    assert get(web, "/")[0] == 200
    mesh.clock.advance(minutes=59)
    assert get(web, "/")[0] == 200
    mesh.clock.advance(minutes=2)
    assert get(web, "/")[0] == 503
    mesh.issue("/web", ttl=timedelta(hours=1))
    assert get(web, "/")[0] == 200


def test_a_certificate_of_the_service_ends_too(mesh: Mesh, service: int) -> None:
    mesh.issue("/orders", ttl=timedelta(hours=1))
    mesh.serve("/orders", forward=service, policy=WEB)
    mesh.clock.advance(hours=2)
    assert get(mesh.call("/web", to="/orders"), "/")[0] == 502
    assert [each["reason"] for each in mesh.events("connection_refused")] == ["identity_not_ready"]


def test_a_certificate_that_openssl_would_refuse_is_not_made(mesh: Mesh) -> None:
    mesh.clock.set(datetime(2012, 1, 1, tzinfo=UTC))
    with pytest.raises(MeshError, match="put the clock of the mesh forward instead of back"):
        mesh.issue("/web", ttl=timedelta(hours=1))


def test_an_edit_acts_at_once_on_what_is_open_too(mesh: Mesh, echo: int, service: int) -> None:
    mesh.serve("/ledger", forward=echo, policy=WEB, protocol="tcp")
    mesh.serve("/orders", forward=service, policy=WEB)
    orders = mesh.call("/web", to="/orders")
    with socket.create_connection(mesh.call("/web", to="/ledger"), timeout=10) as web:
        web.sendall(b"hello")
        assert web.recv(5) == b"hello"
        mesh.edit_policy("/ledger", "allow = []")
        assert read_to_end(web) == b"reset"
    assert get(orders, "/")[0] == 200
    mesh.edit_policy("/orders", "allow = []")
    assert get(orders, "/")[0] == 403
    assert mesh.decisions()[-1].policy.endswith("@2")


def test_a_faulty_edit_is_told_and_changes_nothing(mesh: Mesh, service: int) -> None:
    mesh.serve("/orders", forward=service, policy=WEB)
    with pytest.raises(MeshError, match=r":2: .*identity.*\n.*:3: "):
        mesh.edit_policy("/orders", '[[allow]]\nfrom = "web"\nmethods = ["get"]\n')
    assert get(mesh.call("/web", to="/orders"), "/")[0] == 200


def test_rules_that_no_test_has_tried_are_told(mesh: Mesh, service: int) -> None:
    mesh.serve("/orders", forward=service, policy=WEB + '[[allow]]\nname = "shop"\nfrom = "/shop"\n')
    assert mesh.unused_rules("/orders") == ["web", "shop"]
    assert get(mesh.call("/shop", to="/orders"), "/")[0] == 200
    assert mesh.unused_rules("/orders") == ["web"]


def test_a_grant_is_spoken_of_before_it_ends(mesh: Mesh, service: int) -> None:
    mesh.clock.set(datetime(2029, 12, 1, tzinfo=UTC))
    mesh.serve("/orders", forward=service, policy=UNTIL_2030)
    mesh.clock.advance(days=20)
    assert [(each["sidecar"], each["left"]) for each in mesh.events("grant_expires")] == [("/orders", "10d 23h")]


def test_a_file_is_read_and_never_written(mesh: Mesh, service: int, tmp_path: Path) -> None:
    file = tmp_path / "orders.allow.toml"
    file.write_text(WEB)
    file.chmod(0o664)  # as in a checkout; a sidecar in production would refuse it
    mesh.serve("/orders", forward=service, policy=file)
    mesh.edit_policy("/orders", "allow = []")
    assert get(mesh.call("/web", to="/orders"), "/")[0] == 403
    assert file.read_text() == WEB


def test_of_a_directory_the_list_of_the_service_is_taken_and_its_promises_are_kept(
    mesh: Mesh, service: int, tmp_path: Path
) -> None:
    (tmp_path / "policies/team").mkdir(parents=True)
    (tmp_path / "policies/team/orders.allow.toml").write_text(WEB)
    mesh.serve("/team/orders", forward=service, policy=tmp_path / "policies")
    assert get(mesh.call("/web", to="/team/orders"), "/")[0] == 200
    (tmp_path / "policies/invariants.toml").write_text('[[invariant]]\nname = "none"\nonly = []\n')
    with pytest.raises(MeshError, match="breaks 'none'"):
        mesh.edit_policy("/team/orders", tmp_path / "policies")
    with pytest.raises(MeshError, match=r"shop\.allow\.toml is no file"):
        mesh.serve("/shop", forward=service, policy=tmp_path / "policies")


def test_limits_are_those_of_a_sidecar(mesh: Mesh, service: int) -> None:
    mesh.serve("/orders", forward=service, policy=WEB, limits=Limits(target_bytes=20))
    assert get(mesh.call("/web", to="/orders"), "/" + 30 * "a")[0] == 414
    assert mesh.decisions() == []


@pytest.mark.parametrize(
    ("serve", "words"),
    [
        ({"policy": WEB, "protocol": "h2"}, "'h2': expected one of http, tcp"),
        ({"policy": WEB, "mode": "off"}, "'off': expected one of enforce, audit"),
        ({"policy": WEB, "forward": "8080"}, "forward='8080': expected host:port"),
        ({"policy": Path("nowhere.allow.toml")}, "nowhere.allow.toml is no file; create it or correct the name"),
        ({"policy": "orders.allow.toml"}, "for a file pass a pathlib.Path"),
        ({"policy": READS, "protocol": "tcp"}, 'the listener of /orders has protocol = "tcp" and sees no requests'),
    ],
)
def test_what_cannot_be_served_is_told_in_words(mesh: Mesh, serve: dict[str, object], words: str) -> None:
    arguments: dict[str, object] = {"forward": 9, **serve}
    with pytest.raises(MeshError) as told:
        mesh.serve("/orders", **arguments)  # type: ignore[arg-type]  # wrong on purpose
    assert words in str(told.value)


def test_what_cannot_be_asked_is_told_in_words(mesh: Mesh, service: int) -> None:
    with pytest.raises(MeshError, match=r"nobody serves /orders in this mesh \(nobody is served yet\)"):
        mesh.call("/web", to="/orders")
    with pytest.raises(MeshError, match="nobody serves /orders"):
        mesh.edit_policy("/orders", WEB)
    with pytest.raises(MeshError, match="write a path such as /web"):
        mesh.call("web", to="/orders")
    with pytest.raises(MeshError, match=r"is of another trust domain; this mesh is mesh\.test"):
        mesh.serve("spiffe://else.test/orders", forward=service, policy=WEB)
    with pytest.raises(MeshError, match=r"has no offset: write datetime\(..., tzinfo=UTC\)"):
        mesh.clock.set(datetime(2027, 1, 1))  # noqa: DTZ001 - that is the mistake
    mesh.serve("/orders", forward=service, policy=WEB)
    with pytest.raises(MeshError, match="served already"):
        mesh.serve("/orders", forward=service, policy=WEB)
    with pytest.raises(MeshError, match="0 decisions within 0 s, expected at least 1:\nnone at all"):
        mesh.decisions(at_least=1, within=0)


async def test_it_can_be_asked_from_a_loop_of_trio(mesh: Mesh, service: int) -> None:
    place = mesh.serve("/orders", forward=service, policy=WEB)
    assert isinstance(place, Place)
    assert (await trio.to_thread.run_sync(get, mesh.call("/web", to="/orders"), "/"))[0] == 200
    assert len(mesh.decisions()) == 1


def threads() -> set[str]:
    """All that run, but for the workers that trio keeps for ten seconds after their work."""
    return {each.name for each in threading.enumerate() if not each.name.startswith("Trio thread")}


def descriptors_open() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_nothing_is_left_of_it(tmp_path: Path, service: int, echo: int) -> None:
    before, descriptors = threads(), descriptors_open()
    with Mesh(tmp_path / "mesh", trust_domain="shop.example") as mesh:
        mesh.serve("/orders", forward=service, policy=WEB)
        ledger = mesh.serve("/ledger", forward=echo, policy=WEB, protocol="tcp")
        assert get(mesh.call("/web", to="/orders"), "/") == (200, "spiffe://shop.example/web")
        held = socket.create_connection(mesh.call("/web", to="/ledger"), timeout=10)
        held.sendall(b"hello")
        assert held.recv(5) == b"hello"
        assert threads() > before
    assert read_to_end(held) == b"reset"
    held.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(ledger)
    for _ in range(100):  # the service above ends its own threads when it has noticed
        if threads() - before == set():
            break
        time.sleep(0.05)
    assert threads() - before == set()
    assert descriptors_open() <= descriptors
    mesh.close()
    with pytest.raises(MeshError, match="the mesh has ended"):
        mesh.decisions()


def test_a_sidecar_that_fails_by_itself_fails_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Grants) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Grants, "look", broken)
    mesh = Mesh(tmp_path / "mesh")
    mesh.serve("/orders", forward=9, policy=WEB)
    with pytest.raises(MeshError, match=r"the mesh failed: .*ZeroDivisionError"):
        mesh.decisions(at_least=1)
    with pytest.raises(MeshError, match=r"a sidecar of the mesh failed: .*ZeroDivisionError"):
        mesh.close()


def test_what_fails_when_it_is_asked_for_is_told_to_who_asked_and_ends_nothing(
    mesh: Mesh, service: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: Stations) -> int:
        raise ZeroDivisionError

    mesh.serve("/orders", forward=service, policy=WEB)
    with monkeypatch.context() as patched:
        patched.setattr(Stations, "recheck", broken)
        with pytest.raises(ZeroDivisionError):
            mesh.clock.advance(days=1)
    assert get(mesh.call("/web", to="/orders"), "/")[0] == 200
