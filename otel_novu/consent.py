"""The telemetry flag: whether usage figures are read and sent, and who decides."""

from dataclasses import dataclass

from otel_novu.log import LOG
from otel_novu.settings import Settings
from otel_novu.store import SCOPES, Store

ADMIN_SETTING = "telemetry"
BY_VARIABLE = "NOVU_TELEMETRY"
BY_UNREADABLE = "an admin setting that can't be read"
_RUNNING = "decision"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether usage figures are sent, and who decided it, as a clause."""

    enabled: bool
    by: str

    @property
    def changeable(self) -> bool:
        """Whether the admin setting can change it."""
        return self.by != BY_VARIABLE

    @property
    def word(self) -> str:
        """`on` or `off`."""
        return "on" if self.enabled else "off"


def read_decision(settings: Settings, store: Store) -> Decision:
    """Decide: `NOVU_TELEMETRY` if it is set, else the admin setting, else on."""
    admin, known = store.read(ADMIN_SETTING)
    if settings.telemetry is not None:
        return Decision(settings.telemetry, BY_VARIABLE)
    if not known:
        return Decision(enabled=False, by=BY_UNREADABLE)
    return Decision(admin in (None, "on"), "the admin setting" if admin else "the default")


def running_decision(store: Store) -> Decision | None:
    """Return what the running exporter decided, None if that is not known."""
    word, _, by = (store.get(_RUNNING) or "").partition(" ")
    return Decision(word == "on", by) if by else None


class TelemetryFlag:
    """The decision of a running exporter, which changes with the admin setting."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self.switches = 0  # how often it went on or off
        self._stamp: tuple[int, ...] | None = None
        self.decision = read_decision(settings, store)
        self._follow()

    @property
    def enabled(self) -> bool:
        """Whether usage figures are read and sent now."""
        return self.decision.enabled

    def scopes(self) -> tuple[str, ...]:
        """Name the scopes that may be sent now."""
        return SCOPES if self.enabled else ("beacon",)

    def read(self) -> None:
        """Read the admin setting again, if the file has changed."""
        stamp = self._store.stamp()
        if stamp is not None and stamp == self._stamp:
            return
        self._stamp = stamp
        decision = read_decision(self._settings, self._store)
        # What can't be read just now was not changed just now.
        if decision != self.decision and decision.by != BY_UNREADABLE:
            self.switches += decision.enabled != self.enabled
            self.decision = decision
            LOG.info("Usage figures are %s now, decided by %s.", decision.word, decision.by)
        self._follow()

    def _follow(self) -> None:
        """Count nothing while off, and let other processes see the decision."""
        if not self.enabled:
            self._store.pause_created()
        seen = f"{self.decision.word} {self.decision.by}"
        if self._store.get(_RUNNING) != seen:
            self._store.set(_RUNNING, seen)
