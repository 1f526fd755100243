"""Tokens, tenants and the audit log."""

from __future__ import annotations

from ..endpoint import Call, Reply, Routes, TenantId, TokenId
from ..problems import ApiError
from . import views
from .people import user_id
from .wire import (
    AuditEntryView,
    AuditQuery,
    ClockInput,
    ClockView,
    MeView,
    Page,
    PageQuery,
    TenantInput,
    TenantMadeView,
    TenantView,
    TokenInput,
    TokenMadeView,
    TokensQuery,
    TokenView,
    VerificationView,
)

routes = Routes("Access", "Tokens, tenants and the audit log.")


@routes.get("/me", "Who am I", answers=MeView)
async def get_me(call: Call) -> Reply:
    """Whose token this is, what it may do, and the roles and groups of its user."""
    principal = call.principal
    row = await call.engine.directory.get_user(principal.tenant_id, principal.user_id)
    return Reply(
        MeView(
            user_id=principal.user_id,
            username=principal.username,
            tenant_id=principal.tenant_id,
            token_id=principal.token_id,
            permissions=sorted(principal.permissions),
            roles=list(row.roles) if row else [],
            groups=list(row.groups) if row else [],
        )
    )


@routes.get("/tokens", "List tokens", answers=Page[TokenView])
async def list_tokens(call: Call, query: TokensQuery) -> Reply:
    """Your own tokens; administrators and auditors see everybody's, or one person's with `user`."""
    user = await user_id(call, query.user) if query.user is not None else None
    rows = await call.engine.tokens.list(call.principal, user=user, limit=query.limit, cursor=query.cursor)
    return Reply(views.page(rows, TokenView.of))


@routes.post(
    "/tokens",
    "Make a token",
    answers=TokenMadeView,
    status=201,
    problems=("permission_missing", "conflict"),
)
async def create_token(call: Call, body: TokenInput) -> Reply:
    """
    Make a token for yourself, or as an administrator for anybody. Its secret is in this answer and nowhere else.

    It cannot carry a permission that you do not have. Repeated with the same Idempotency-Key, the request is answered with
    the same token, but without its secret, which is not kept: `secret` is null and `secretWithheld` true.
    """
    row, secret = await call.engine.tokens.create(
        call.principal, body.user, body.permissions, body.name, body.expires_at, request=call.request
    )
    made = TokenMadeView.of(row, secret=secret, secret_withheld=secret is None)
    return Reply(made, location=f"{call.base}/tokens/{row.id}")


@routes.delete("/tokens/{id}", "Revoke a token", answers=TokenView)
async def revoke_token(call: Call, id: TokenId) -> Reply:
    """Make a token useless for ever: your own, or as an administrator anybody's."""
    row = await call.engine.tokens.revoke(call.principal, id.lower(), request=call.request)
    return Reply(TokenView.of(row))


@routes.get("/tenants", "List tenants", answers=Page[TenantView])
async def list_tenants(call: Call, query: PageQuery) -> Reply:
    """All tenants for administrators of the tenant `default`; your own for everybody else."""
    rows = await call.engine.tenants.list(call.principal, limit=query.limit, cursor=query.cursor)
    return Reply(views.page(rows, TenantView.of))


@routes.post(
    "/tenants", "Create a tenant", answers=TenantMadeView, status=201, permissions=("admin",), problems=("conflict",)
)
async def create_tenant(call: Call, body: TenantInput) -> Reply:
    """
    Make a tenant, a world of its own, with an administrator's first token in the answer.

    For administrators of the tenant `default` only. Repeated with the same Idempotency-Key, the request is answered with
    the same tenant, but without the token, which is not kept: `adminToken` is null and `secretWithheld` true.
    """
    row, secret = await call.engine.tenants.create(
        call.principal, body.id, body.name, virtual_now=body.virtual_now, request=call.request
    )
    made = TenantMadeView.of(row, admin_token=secret, secret_withheld=secret is None)
    return Reply(made, location=f"{call.base}/tenants/{row.id}")


@routes.get("/tenants/{id}", "Get a tenant", answers=TenantView)
async def get_tenant(call: Call, id: TenantId) -> Reply:
    """One tenant: your own, or any for administrators of the tenant `default`."""
    principal = call.principal
    if id != principal.tenant_id and not (principal.tenant_id == "default" and principal.may("admin")):
        raise ApiError("not_found", "There is no such tenant that you may see; check its id.")
    return Reply(TenantView.of(views.found(await call.engine.tenants.get(id), "tenant")))


@routes.put(
    "/tenants/{id}/clock",
    "Move a tenant's clock",
    answers=ClockView,
    permissions=("operator",),
    problems=("conflict",),
)
async def move_clock(call: Call, id: TenantId, body: ClockInput) -> Reply:
    """
    Set the time of your tenant, which must have been made with a virtual clock. What is due then is carried out.

    With `waitSeconds` the answer comes when that is done, what follows from it at once included: timers have fired,
    sub-workflows have started, parents know of their children's end. Steps that workers outside fetch are not waited for.
    """
    if id != call.principal.tenant_id:
        raise ApiError("not_found", "A clock is moved with a token of its own tenant; this is not yours.")
    tenants = call.engine.tenants
    row = await tenants.set_clock(call.principal, body.virtual_now, request=call.request)
    settled = None if body.wait_seconds is None else await tenants.settled(row.id, timeout=body.wait_seconds)
    return Reply(ClockView.of(row, settled=settled))


@routes.get("/audit", "Read the audit log", answers=Page[AuditEntryView], permissions=("auditor",))
async def list_audit(call: Call, query: AuditQuery) -> Reply:
    """What happened outside of instances: publishing, the directory, tokens, denied attempts; the newest first."""
    rows = await call.engine.audit.list(
        call.principal.tenant_id,
        action=query.action,
        subject=query.subject,
        limit=query.limit,
        cursor=query.cursor,
    )
    items = [AuditEntryView.of(row, hash=row.hash.hex()) for row in rows.items]
    return Reply(Page(items=items, next_cursor=rows.next_cursor))


@routes.get("/audit/verification", "Verify the audit log", answers=VerificationView, permissions=("auditor",))
async def verify_audit(call: Call) -> Reply:
    """Compute the chain of hashes anew and say whether every row is there and as it was written."""
    result = await call.engine.audit.verify(call.principal.tenant_id)
    return Reply(VerificationView.of(result))
