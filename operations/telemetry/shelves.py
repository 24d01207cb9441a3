"""Shelve and unshelve: notifications of a thing, or of one metric of it, wait for a limited time (ISA-18.2).

A shelf is an attribute of its plant's item in the lanes table, with who set it, when and why. The processor reads it
with each notification of the plant, and its sweep removes it when it is over.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from fleet_iot.sensor_processor.planning.plant import INDEX, LISTED, PLANT, SHELF, Shelf, shelf_of

MOST = 50
"""Shelves of a plant at once: each makes its item longer, which is read and written with notifications."""


class TooManyShelvesError(Exception):
    """A plant has as many shelves as it may have."""


def shelve(client: Any, table: str, *, facility: str, shelf: Shelf, now: datetime) -> None:
    """Set a shelf, in place of an earlier one of the same thing and metric. Raises TooManyShelvesError."""
    others = {each.name for each in read_shelves(client, table, facilities=[facility], now=now)} - {shelf.name}
    if len(others) >= MOST:
        raise TooManyShelvesError(f"{facility} has {MOST} shelves")
    # First: the sweep finds plants by it.
    _update(client, table, INDEX, "SET #plant = :plant", {"#plant": f"{LISTED}{facility}"}, {":plant": {"BOOL": True}})
    values = {":shelf": shelf.attribute(), ":one": {"N": "1"}}
    names = {"#shelf": shelf.name, "#revision": "revision"}
    _update(client, table, f"{PLANT}{facility}", "SET #shelf = :shelf ADD #revision :one", names, values)


def unshelve(client: Any, table: str, *, facility: str, shelves: Iterable[Shelf]) -> None:
    """Remove shelves; the next sweep notifies what waited for them and still lasts."""
    for shelf in shelves:
        names = {"#shelf": shelf.name, "#revision": "revision"}
        key = f"{PLANT}{facility}"
        _update(client, table, key, "REMOVE #shelf ADD #revision :one", names, {":one": {"N": "1"}})


def read_shelves(client: Any, table: str, *, facilities: Iterable[str], now: datetime) -> list[Shelf]:
    """Read the shelves of plants that are not over."""
    found = []
    for facility in facilities:
        try:
            item = client.get_item(TableName=table, Key={"lane": {"S": f"{PLANT}{facility}"}}).get("Item", {})
        except client.exceptions.ResourceNotFoundException:
            return []  # an environment of a version that had no lanes
        found += [shelf_of(name, value) for name, value in item.items() if name.startswith(SHELF)]
    return sorted((each for each in found if each.until > now.timestamp() * 1000), key=lambda each: each.name)


def _update(client: Any, table: str, key: str, changes: str, names: dict[str, str], values: dict[str, Any]) -> None:
    client.update_item(
        TableName=table,
        Key={"lane": {"S": key}},
        UpdateExpression=changes,
        ExpressionAttributeNames=names,
        ExpressionAttributeValues=values,
    )
