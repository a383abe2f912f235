"""Who gets a place before the handshake, and who loses his: by order, and against a model."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshproxy.limits.headcount import Headcount
from meshproxy.limits.waiting_room import NO_PLACE, TOO_MANY, Place, WaitingRoom


def placed(room: WaitingRoom, address: str = "10.0.0.1") -> Place:
    place = room.enter(address)
    assert isinstance(place, Place)
    return place


def test_who_is_silent_the_longest_gives_his_place_to_a_newcomer() -> None:
    room = WaitingRoom(2, 10)
    lost: list[str] = []
    first, second = placed(room), placed(room)
    first.on_lost = lambda: lost.append("first")
    second.on_lost = lambda: lost.append("second")
    first.has_spoken()
    first.owes(answered=False)  # it is its turn again, but later than that of the second
    third = placed(room)
    assert (lost, second.lost, room.taken) == (["second"], True, 2)
    placed(room)
    assert lost == ["second", "first"]
    assert not third.lost
    assert repr(room) == "<WaitingRoom taken=2/2 silent=2 owing=0>"


def test_a_flood_of_silence_is_not_in_the_way_of_who_was_answered() -> None:
    room = WaitingRoom(4, 100)
    honest = placed(room)
    honest.has_spoken()
    honest.owes(answered=True)
    for _ in range(20):
        placed(room).owes(answered=False)  # half a word, over and over
    assert not honest.lost
    honest.has_spoken()
    honest.owes(answered=False)  # half of his last flight
    for _ in range(20):
        placed(room)
    assert not honest.lost


def test_a_flood_of_first_words_is_not_in_the_way_of_newcomers() -> None:
    room = WaitingRoom(4, 100)
    for _ in range(20):
        place = placed(room)
        newcomer = placed(room)
        place.has_spoken()
        place.owes(answered=True)
        placed(room)
        assert not newcomer.lost
        newcomer.leave()


def test_of_those_who_were_answered_the_first_goes_when_there_are_no_others() -> None:
    room = WaitingRoom(2, 10)
    first, second = placed(room), placed(room)
    for place in (first, second):
        place.has_spoken()
        place.owes(answered=True)
    placed(room)
    assert (first.lost, second.lost) == (True, False)


def test_who_waits_for_us_keeps_his_place_and_the_newcomer_is_turned_away() -> None:
    room = WaitingRoom(2, 10)
    here = [placed(room) for _ in range(2)]
    for place in here:
        place.has_spoken()
    assert room.enter("10.0.0.1") == NO_PLACE
    assert not any(place.lost for place in here)
    here[0].leave()
    placed(room)


def test_an_address_has_no_more_than_its_share() -> None:
    room = WaitingRoom(10, 2)
    first, _ = placed(room), placed(room)
    assert room.enter("10.0.0.1") == TOO_MANY
    placed(room, "10.0.0.2")
    first.leave()
    first.leave()
    placed(room)
    assert room.enter("10.0.0.1") == TOO_MANY


def test_nothing_is_left_of_who_has_gone() -> None:
    room = WaitingRoom(100, 100)
    places = [placed(room, f"10.0.0.{number}") for number in range(100)]
    for place in places:
        place.leave()
        place.owes(answered=True)  # what a task does that has not heard yet
        place.has_spoken()
    assert (room.taken, room.silent, room.owing) == (0, {}, {})
    assert repr(room.addresses) == "<Headcount keys=0 most=100>"


STEPS = st.lists(st.tuples(st.sampled_from(["enter", "owes", "speaks", "leaves"]), st.integers(0, 20)), max_size=200)


@settings(deadline=None)
@given(STEPS, st.integers(1, 5), st.integers(1, 5))
def test_it_is_never_fuller_than_it_may_be_and_never_forgets(
    steps: list[tuple[str, int]], most: int, each: int
) -> None:
    room, here = WaitingRoom(most, each), list[Place]()
    for step, number in steps:
        if step == "enter":
            place = room.enter(f"10.0.0.{number % 3}")
            here = [one for one in here if not one.lost]
            if isinstance(place, Place):
                here.append(place)
            elif place == NO_PLACE:
                assert len(here) == most
        elif here:
            chosen = here[number % len(here)]
            if step == "owes":
                chosen.owes(answered=number > 10)
            elif step == "speaks":
                chosen.has_spoken()
            else:
                here.remove(chosen)
                chosen.leave()
        assert room.taken == len(here) <= most
        assert set(room.owing) | set(room.silent) <= set(here)
        assert not set(room.owing) & set(room.silent)
        for address in ("10.0.0.0", "10.0.0.1", "10.0.0.2"):
            assert sum(place.address == address for place in here) <= each


def test_a_headcount_counts_by_key() -> None:
    heads = Headcount(2)
    assert [heads.enter(key) for key in ("a", "a", "a", "b")] == [True, True, False, True]
    heads.leave("a")
    assert heads.enter("a")
    heads.most = 1
    heads.leave("a")
    assert not heads.enter("a")
