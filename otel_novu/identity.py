"""Who reports: the instance id, and the key of the pseudonyms for host name and address."""

import secrets
from uuid import UUID, uuid4

from otel_novu.settings import Settings
from otel_novu.store import Store

INSTANCE_ID, PSEUDONYM_KEY = "instance_id", "pseudonym_key"


def instance_id(settings: Settings, store: Store) -> UUID:
    """Return OTEL_NOVU_INSTANCE_ID, else the id in the store, which is made once."""
    if settings.instance_id is not None:
        return settings.instance_id
    return UUID(store.get_or_create(INSTANCE_ID, lambda: str(uuid4())))


def pseudonym_key(settings: Settings, store: Store) -> bytes | None:
    """Return the key in the store if OTEL_NOVU_ANONYMIZE is on: made once, never sent."""
    if not settings.anonymize:
        return None
    return bytes.fromhex(store.get_or_create(PSEUDONYM_KEY, lambda: secrets.token_hex(16)))
