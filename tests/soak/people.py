"""What people do, and ask, while everything breaks."""

from __future__ import annotations

import aiohttp
import anyio

from engine.cli.demo_stage import DemoFailed
from tests.soak.scene import PATIENCE, REFUSED, Broken, Scene

_API = (
    "/healthz",
    "/readyz",
    "/v1/version",
    "/v1/targets",
    "/v1/events?limit=50",
    "/v1/views",
    "/v1/applications",
    "/v1/clusters",
    "/v1/repositories",
    "/v1/notifications",
    "/v1/targets/default/{target}",
    "/v1/targets/default/{target}/diff",
    "/v1/targets/default/{target}/plan",
    "/v1/timeline?subject={target}",
    "/v1/targets?at={position}",
    "/v1/targets/default/{target}?at={position}",
)
_PAGES = (
    "/",
    "/targets/default/{target}",
    "/applications",
    "/clusters",
    "/repositories",
    "/timeline",
    "/views",
    "/?at={position}",
)


async def commit(scene: Scene) -> str:
    """Somebody commits."""
    scene.commit()
    return "a commit"


async def configure(scene: Scene) -> str:
    """Somebody commits to the control repository, and may make a mistake."""
    wrong, clusters = scene.chance.random() < 0.4, scene.chance.randint(1, 2)
    scene.configure(wrong=wrong, clusters=clusters)
    return f"a configuration, {'wrong' if wrong else 'good'}"


async def edit(scene: Scene) -> str:
    """Somebody edits or deletes behind Git's back."""
    cluster, chance = scene.cluster(), scene.chance
    turn = f'{{"data":{{"turn":"{chance.randint(0, 9)}-evil"}}}}'
    words = chance.choice(
        [
            ("-n", "shop", "scale", "deploy/shop", f"--replicas={chance.randint(4, 99)}"),
            ("-n", "shop", "delete", "configmap", "shop", "--wait=false"),
            ("-n", "shop", "label", "configmap", "shop", f"soak=v{chance.randint(0, 9)}"),
            ("-n", "shop", "patch", "configmap", "shop", "-p", '{"data":{"greeting":"evil"}}'),
            ("-n", "flags", "patch", "configmap", f"flag-{chance.randint(0, 3)}", "-p", turn),
            ("-n", "flags", "delete", "configmap", "--all", "--wait=false"),
            ("delete", "namespace", "flags", "--wait=false"),
        ]
    )
    try:
        await scene.stage.kubectl(cluster, "--request-timeout=3s", *words)
    except DemoFailed as error:
        # Not there yet, or refused by a fault of ours: nothing was edited then.
        return f"kubectl {' '.join(words[:4])} on {cluster} was refused: {str(error)[-60:]}"
    return f"kubectl {' '.join(words[:4])} on {cluster}"


async def steer(scene: Scene) -> str:
    """An operator suspends, resumes, syncs, rolls back or follows again."""
    target, chance = scene.target(), scene.chance
    verb = chance.choice(["suspend", "resume", "sync", "rollback", "lift-rollback"])
    body = {"reason": "soak"}
    if verb == "rollback":
        body["revision"] = chance.choice(scene.commits[-6:])
    scene.steered.add(target)
    return await _done(scene, "POST", f"/v1/targets/default/{target}/{verb}", body)


async def withdraw(scene: Scene) -> str:
    """Somebody withdraws an application, with its objects or without them."""
    name = scene.chance.choice(["flags", f"shop-{scene.cluster()}"])
    cascade = scene.chance.choice(["true", "false"])
    path = f"/v1/resources/application/default/{name}?cascade={cascade}"
    return await _done(scene, "DELETE", path, None)


async def declare(scene: Scene) -> str:
    """Somebody declares everything again."""
    return await _done(scene, "POST", "/v1/resources", scene.declared())


async def look(scene: Scene) -> str:
    """Somebody looks at the API and at pages: there is an answer, or none, but no fault of ours."""
    statuses = []
    try:
        with anyio.fail_after(PATIENCE):
            asked = scene.chance.sample(_API, 5)
            statuses = [await _status(scene, scene.stage._session, path) for path in asked]
            statuses += await _browse(scene)
    except REFUSED as error:
        statuses.append(type(error).__name__)
    return f"looked: {' '.join(statuses)}"


async def remember(scene: Scene) -> str:
    """Somebody notes how all targets stand, to see later whether the past is told alike."""
    try:
        found = await scene.ask("GET", "/v1/targets?limit=500")
    except REFUSED as error:
        return f"not remembered: {type(error).__name__}"
    scene.remembered[found["position"]] = found["items"]
    return f"remembered position {found['position']}"


async def _browse(scene: Scene) -> list[str]:
    link = await scene.ask("POST", "/v1/login-links")
    headers, jar = {"Origin": scene.stage.url}, aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(headers=headers, cookie_jar=jar) as session:
        code = link["path"].partition("code=")[2]
        async with session.post(f"{scene.stage.url}/login", data={"code": code}) as answer:
            await answer.read()
        return [await _status(scene, session, path) for path in scene.chance.sample(_PAGES, 3)]


async def _status(scene: Scene, session: aiohttp.ClientSession | None, template: str) -> str:
    if session is None:
        raise DemoFailed("the engine does not serve")
    position = scene.chance.choice([1, *scene.remembered])
    path = template.format(target=scene.target(), position=position)
    async with session.get(scene.stage.url + path) as answer:
        text = await answer.text()
    if answer.status == 500 or answer.status in (400, 401, 403, 405, 422):
        raise Broken(f"GET {path} answers {answer.status}: {text[:1000]}")
    return str(answer.status)


async def _done(scene: Scene, method: str, path: str, body: object) -> str:
    what = f"{method} {path.partition('default/')[2] or path}"
    try:
        await scene.ask(method, path, body)
    except REFUSED as error:
        if "a fault of ours" in str(error):
            raise Broken(f"{what}: {error}") from error
        return f"{what} was refused: {str(error)[-80:]}"
    return what
