"""The telemetry flag: whether usage figures are read and sent, and who decides."""

from dataclasses import dataclass

from otel_novu.log import LOG
from otel_novu.settings import Settings
from otel_novu.store import Store

ADMIN_SETTING = "telemetry"
BY_UNREADABLE = "an admin setting that can't be read"
_RUNNING = "decision"


@dataclass(frozen=True, slots=True)
class Decision:
    """The telemetry flag.

    Args:
        enabled: usage figures are sent.
        by: who decided, as a clause.
        changeable: the admin setting can change it.
    """

    enabled: bool
    by: str
    changeable: bool


def decide(variable: bool | None, admin: bool | None, *, readable: bool) -> Decision:  # noqa: FBT001
    """Decide: `NOVU_TELEMETRY` if it is set, else the admin setting, else on.

    Args:
        variable: `NOVU_TELEMETRY`, None if it is not set.
        admin: the admin setting, None if there is none.
        readable: False means that nobody knows the admin setting, so that the flag is off.
    """
    if variable is not None:
        return Decision(variable, "NOVU_TELEMETRY", changeable=False)
    if not readable:
        return Decision(enabled=False, by=BY_UNREADABLE, changeable=True)
    if admin is None:
        return Decision(enabled=True, by="the default", changeable=True)
    return Decision(admin, "the admin setting", changeable=True)


def read_decision(settings: Settings, store: Store) -> Decision:
    """Decide by the settings and the store."""
    stored, known = store.read(ADMIN_SETTING)
    admin = None if stored is None else stored == "on"
    return decide(settings.telemetry, admin, readable=known)


def running_decision(store: Store) -> Decision | None:
    """Return what the running exporter decided, None if that is not known."""
    enabled, changeable, by = (*(store.get(_RUNNING) or "").split(" ", 2), "", "", "")[:3]
    return Decision(enabled == "on", by, changeable == "changeable") if by else None


class TelemetryFlag:
    """The decision of a running exporter, which changes with the admin setting."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings, self._store = settings, store
        self.switches = 0  # how often it went on or off
        self.decision = read_decision(settings, store)
        self._save()

    @property
    def enabled(self) -> bool:
        """Whether usage figures are read and sent now."""
        return self.decision.enabled

    def scopes(self) -> tuple[str, ...]:
        """Name the scopes that may be sent now."""
        return ("beacon", "usage") if self.enabled else ("beacon",)

    def read(self) -> None:
        """Read the admin setting again."""
        decision = read_decision(self._settings, self._store)
        # What can't be read just now was not changed just now.
        if decision == self.decision or decision.by == BY_UNREADABLE:
            if not self._saved:
                self._save()
            return
        self.switches += decision.enabled != self.enabled
        self.decision = decision
        if not self.enabled:
            self._store.pause_created()
        self._save()
        LOG.info(
            "Usage figures are %s now, decided by %s.", "on" if self.enabled else "off", decision.by
        )

    def _save(self) -> None:
        word = "on" if self.enabled else "off"
        changeable = "changeable" if self.decision.changeable else "fixed"
        self._saved = self._store.set(_RUNNING, f"{word} {changeable} {self.decision.by}")
