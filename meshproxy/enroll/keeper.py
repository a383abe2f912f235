"""Keeps one identity alive: enrols where there is none, renews by plan, asks whom to believe; for ever.

Nothing that happens here takes anything away from who serves with what is still valid: a CA that is gone, a token that
is spent, a full disk are told, with what to do, and tried again. The times are those of `plan`.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import trio

from meshproxy.enroll import plan
from meshproxy.enroll.faults import EnrolmentError, RefusedByCa, Unreachable
from meshproxy.enroll.keeping import KeeperState, effect, hint, in_words, result
from meshproxy.enroll.plan import Appointment
from meshproxy.enroll.remedies import remedy_for
from meshproxy.enroll.token_file import NoTokenFile, TokenFileError, read_token_file
from meshproxy.units import format_duration
from meshproxy.watching import signature_of
from meshproxy.wire.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from ca.tokens import JoinToken
    from meshproxy.enroll.errand import Errands, News, Taken
    from meshproxy.enroll.holding import Held
    from meshproxy.enroll.keeping import Orders
    from meshproxy.enroll.plan import Dice
    from meshproxy.telemetry.events import Logger
    from meshproxy.telemetry.metrics import Metrics
    from meshproxy.watching import Signature
    from meshproxy.wire.relay import Wall

_TOLD_AGAIN: Final = timedelta(minutes=1)  # the same trouble, in the log
_REFUSED_PAUSE: Final = 300.0  # seconds: who is refused for good asks seldom, and alarms nobody every second
_LOOK_FOR_TOKEN: Final = 1.0  # seconds


class Keeper:
    """One per identity directory and process. `on_new` is called whenever another certificate or root is in place."""

    def __init__(
        self,
        errands: Errands,
        orders: Orders,
        *,
        wall: Wall,
        log: Logger,
        metrics: Metrics,
        dice: Dice,
        on_new: Callable[[Held], Awaitable[None]] | None = None,
    ) -> None:
        self._errands = errands
        self._orders = orders
        self._wall = wall
        self._log = log
        self._metrics = metrics
        self._dice = dice
        self._on_new = on_new
        self._held: Held | None = None
        self._planned: datetime | None = None
        self._retry: Appointment | None = None
        self._failures = 0
        self._told: tuple[str, datetime] | None = None
        self._spent = ("", "")  # the id of the token that was refused last, and why: it is not tried again
        self._token_seen: Signature = ()
        self._wants_token = False
        self._hurry = trio.Event()
        self.state = KeeperState()
        metrics.before_scrape(self._refresh)

    def __repr__(self) -> str:
        return f"<Keeper of {self._errands.holding.directory} failures={self._failures} planned={self._planned}>"

    async def run(self) -> None:
        """Keep it alive until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._renew_for_ever)
            nursery.start_soon(self._poll_for_ever)

    # Renewal

    async def _renew_for_ever(self) -> None:
        await self._begin()
        while True:
            if await self._is_due():
                await self._attempt()
            else:
                await self._nap()

    async def _begin(self) -> None:
        try:
            held = await self._errands.look()
        except EnrolmentError:
            held = None  # the first attempt tells
        if held is not None:
            self._adopt(held)
        if held is None or (self._planned is not None and self._planned <= self._wall()):
            wait = plan.first_try(None if held is None else held.life, self._dice)
            self._retry = Appointment(self._wall() + timedelta(seconds=wait), timedelta(seconds=wait))

    async def _is_due(self) -> bool:
        now = self._wall()
        if self._retry is None:
            return self._planned is None or now >= self._planned
        return self._retry.is_due(now) or (self._wants_token and await self._token_has_come())

    async def _token_has_come(self) -> bool:
        return await self._look_at_token_file() != self._token_seen

    async def _look_at_token_file(self) -> Signature:
        file = self._orders.token_file
        return () if file is None else await in_thread(signature_of, [file], abandon_on_cancel=True)

    async def _nap(self) -> None:
        until = self._retry.at if self._retry is not None else self._planned
        assert until is not None, "what is not due has a time"
        nap = plan.nap(until, None if self._held is None else self._held.life, now=self._wall())
        with trio.move_on_after(min(nap, _LOOK_FOR_TOKEN) if self._wants_token else nap):
            await self._hurry.wait()
        self._hurry = trio.Event()

    async def _attempt(self) -> None:
        """Get the next certificate, or say why not and when it is tried again."""
        self._token_seen = await self._look_at_token_file()
        try:
            held = await self._errands.look()
            taken = await (self._enrol(self._token()) if held is None else self._renew(held))
        except (EnrolmentError, TokenFileError) as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - a bug here must not end who serves with what is valid
            self._log.exception("internal_error", during="renewal")
            self._failed(Unreachable(f"an internal error ({type(error).__name__}); report it"))
        else:
            await self._succeeded(taken, enrolled=held is None)

    def _token(self) -> JoinToken:
        file = self._orders.token_file
        directory = self._errands.holding.directory
        if file is None:
            raise NoTokenFile(f"there is no identity in {directory}, and no token_file to enrol with")
        token = read_token_file(file)
        spent, why = self._spent
        if token.id.hex() == spent:
            raise TokenFileError(f"the token in {file} is of no use any more: {why}")
        return token

    async def _enrol(self, token: JoinToken) -> Taken:
        try:
            return await self._errands.enrol(token, self._orders.addresses)
        except RefusedByCa as refused:
            if refused.is_about_token:
                self._spent = (token.id.hex(), str(refused))
            raise

    async def _renew(self, held: Held) -> Taken:
        try:
            return await self._errands.renew(held.leaf.fingerprint, self._orders.addresses)
        except RefusedByCa as refused:
            token = await self._fresh_token() if refused.needs_token else None
            if token is None:
                raise
        return await self._enrol(token)

    async def _fresh_token(self) -> JoinToken | None:
        """A token that was put there since we enrolled: it leads on where the certificate does not."""
        enrolment = await in_thread(self._errands.holding.enrolment)
        try:
            token = self._token()
        except TokenFileError:
            return None
        return None if token.id.hex() == enrolment.token else token

    async def _succeeded(self, taken: Taken, *, enrolled: bool) -> None:
        now, before = self._wall(), self.state
        self._failures, self._retry, self._told, self._wants_token = 0, None, None, False
        self._adopt(taken.held)
        word = "elsewhere" if taken.elsewhere else "enrolled" if enrolled else "renewed"
        self._metrics.renewals.labels(word).inc()
        self._metrics.renewal_last_success.labels().set(now.timestamp())
        self.state = replace(self.state, renewed_at=now, last_error="", remedy="", failing_since=None, next_try=None)
        leaf = taken.held.leaf
        failed_for = None if before.failing_since is None else in_words(now - before.failing_since)
        self._log.info(
            f"identity_{word}" if word != "elsewhere" else "identity_renewed_elsewhere",
            id=str(leaf.id),
            serial=f"{leaf.serial:x}",
            expires=leaf.not_after.isoformat(),
            next_renewal=None if self._planned is None else self._planned.isoformat(timespec="seconds"),
            **({"after_failing_for": failed_for} if failed_for else {}),
            **({"clamped_by": taken.clamped_by} if taken.clamped_by else {}),
            **({"given_again": True} if taken.again else {}),
        )
        if taken.doubt:
            self._log.warning("trust_not_taken", error=taken.doubt, effect="what was believed before is kept")
        await self._tell_of_new(taken.held)

    def _adopt(self, held: Held) -> None:
        """Plan by this certificate, if it is another than before."""
        before, self._held = self._held, held
        self.state = replace(
            self.state,
            sequence_loaded=held.loaded,
            sequence_known=None if held.believed is None else held.believed.sequence,
        )
        if before is not None and before.leaf.fingerprint == held.leaf.fingerprint:
            return
        planned = plan.renewal(held.life, self._dice, self._orders.left)
        if before is not None or self._failures:
            # Clocks may be apart by more than half of a short life: whoever has just been served is not due again.
            planned = max(planned, self._wall() + timedelta(seconds=held.life.seconds / 20))
        self._plan_for(planned)

    def _plan_for(self, planned: datetime) -> None:
        self._planned = planned
        self.state = replace(self.state, next_renewal=planned)

    def _failed(self, error: Exception) -> None:
        now, held = self._wall(), self._held
        self._failures += 1
        asked = None
        if isinstance(error, RefusedByCa):
            asked = _REFUSED_PAUSE if error.needs_token else error.refusal.retry_after
        pause = plan.pause(self._failures, None if held is None else held.life, self._dice, asked=asked)
        self._retry = Appointment(now + timedelta(seconds=pause), timedelta(seconds=pause))
        self._wants_token = self._orders.token_file is not None and (
            isinstance(error, TokenFileError) or (isinstance(error, RefusedByCa) and error.needs_token)
        )
        self._metrics.renewals.labels(result(error)).inc()
        words, what_to_do = str(error), remedy_for(error, held, self._orders.addresses, self._orders.token_file)
        since = self.state.failing_since or now
        self.state = replace(
            self.state, last_error=words, remedy=what_to_do, failing_since=since, next_try=self._retry.at
        )
        if self._told is not None and self._told[0] == words and now - self._told[1] < _TOLD_AGAIN:
            return
        self._told = (words, now)
        tell = self._log.error if held is None or now > held.leaf.not_after else self._log.warning
        tell(
            "enrolment_failed" if held is None else "renewal_failed",
            error=words,
            since=since.isoformat(timespec="seconds"),
            attempts=self._failures,
            next_try_in=format_duration(round(pause, 1)),
            effect=effect(held, now),
            remedy=what_to_do,
        )

    # Whom to believe

    async def _poll_for_ever(self) -> None:
        failures = 0
        await trio.sleep(min(hint(None), 2.0) * self._dice.random())
        while True:
            held = self._held
            if held is None:
                await trio.sleep(_LOOK_FOR_TOKEN)  # whoever enrols brings the first news
                continue
            try:
                news = await self._errands.poll(self._orders.addresses)
            except EnrolmentError as error:
                failures += 1
                self._poll_failed(error, failures)
                asked = error.refusal.retry_after if isinstance(error, RefusedByCa) else None
                pause = plan.pause(failures, held.life, self._dice, asked=asked)
            except Exception:  # noqa: BLE001 - as in `_attempt`
                self._log.exception("internal_error", during="trust poll")
                failures += 1
                pause = plan.pause(failures, None, self._dice)
            else:
                failures = 0
                await self._heard(news)
                pause = plan.poll_pause(hint(news.believed), self._dice)
            await trio.sleep(pause)

    async def _heard(self, news: News) -> None:
        now, before = self._wall(), self.state
        self._adopt(news.held)
        self.state = replace(self.state, trust_at=now, trust_error="", sequence_known=news.believed.sequence)
        if before.trust_error:
            self._log.info("ca_reachable_again", sequence=news.believed.sequence)
        if before.sequence_known != news.believed.sequence:
            self._log.info(
                "trust_updated",
                sequence=news.believed.sequence,
                roots=len(news.believed.bundle.roots),
                **({"waits_for": "a certificate that leads to the new roots"} if news.roots_wait else {}),
            )
        if news.roots_wait:
            self._renew_now(news.held, plan.DISBELIEVED, "our certificate does not lead to the new roots")
        elif news.must_renew:
            self._renew_now(news.held, plan.AT_ONCE, "who signed our certificate is to be believed no more")
        if news.roots_changed:
            await self._tell_of_new(news.held)

    def _renew_now(self, held: Held, share: float, reason: str) -> None:
        """The CA asks for it: once for each certificate, and spread over a share of its life."""
        now = self._wall()
        planned = plan.at_once(held.life, self._dice, now=now, share=share)
        soon = now + timedelta(seconds=held.life.seconds * share)
        if self._planned is None or self._planned <= soon:
            return
        self._plan_for(planned)
        self._hurry.set()
        self._log.warning(
            "renewal_asked_for",
            id=str(held.leaf.id),
            reason=f"the CA says that {reason}",
            next_renewal=planned.isoformat(timespec="seconds"),
        )

    def _poll_failed(self, error: EnrolmentError, failures: int) -> None:
        words = str(error)
        if failures == 1 or words != self.state.trust_error:
            held = self._held
            since = self.state.trust_at
            self._log.warning(
                "trust_poll_failed",
                error=words,
                last_success=None if since is None else since.isoformat(timespec="seconds"),
                effect="revocations and new roots do not arrive; what is known is believed",
                remedy=remedy_for(error, held, self._orders.addresses, self._orders.token_file),
            )
        self.state = replace(self.state, trust_error=words)

    async def _tell_of_new(self, held: Held) -> None:
        if self._on_new is not None:
            await self._on_new(held)

    def _refresh(self) -> None:
        """Bring the gauges that follow the clock up to date."""
        now, state, metrics = self._wall(), self.state, self._metrics
        if state.next_renewal is not None:
            metrics.renewal_planned.labels().set((state.next_renewal - now).total_seconds())
        if state.trust_at is not None:
            metrics.trust_age.labels().set((now - state.trust_at).total_seconds())
        if state.sequence_known is not None:
            metrics.bundle_known.labels().set(state.sequence_known)
