"""The admin paths of a cluster, `/c/<name>/_sim/...`: faults, pace and records over HTTP.

GET    _sim                what is switched on, counters
GET    _sim/writes         every write: verb, path, manager, changed or not, when
DELETE _sim/writes         forgets them
POST   _sim/faults         a Fault; answers its number
DELETE _sim/faults[/N]     switches faults off
POST   _sim/pace           {"applies_per_second": N, "latency_seconds": S}
POST   _sim/drop-watches   ends every open watch
POST   _sim/expire         forgets the history: older resource versions answer 410
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson
from aiohttp import web

from engine.simulator import errors
from engine.simulator.admin import Control, Fault
from engine.simulator.cluster import SimCluster


class Pace(msgspec.Struct, forbid_unknown_fields=True):
    """Body of `_sim/pace`; 0 lifts a limit."""

    applies_per_second: float = 0.0
    latency_seconds: float = 0.0


async def handle(
    request: web.Request, path: str, cluster: SimCluster, control: Control
) -> web.Response:
    """Answers a request below `_sim`; raises ApiError."""
    data = await request.read()
    try:
        answer = _answer(request.method, path, data, cluster, control)
    except msgspec.MsgspecError as error:
        raise errors.bad_request(f"_sim/{path}: {error}") from None
    return web.Response(body=orjson.dumps(answer), content_type="application/json")


def _answer(method: str, path: str, data: bytes, cluster: SimCluster, control: Control) -> Any:
    match method, path.split("/"):
        case "GET", [""]:
            store = cluster.store
            return {
                **control.report(),
                "resourceVersion": str(store.version),
                "watches": store.watching(),
            }
        case "GET", ["writes"]:
            return control.written()
        case "DELETE", ["writes"]:
            control.writes.clear()
            return {}
        case "POST", ["faults"]:
            return {"fault": control.add(msgspec.json.decode(data, type=Fault))}
        case "DELETE", ["faults"]:
            control.clear()
            return {}
        case "DELETE", ["faults", number] if number.isdigit():
            control.clear(int(number))
            return {}
        case "POST", ["pace"]:
            pace = msgspec.json.decode(data, type=Pace)
            control.pace, control.latency = pace.applies_per_second, pace.latency_seconds
            return {}
        case "POST", ["drop-watches"]:
            return {"dropped": cluster.store.drop_watches()}
        case "POST", ["expire"]:
            cluster.store.expire()
            return {"resourceVersion": str(cluster.store.version)}
    raise errors.no_such_path()
