"""Lets Clerk's own typed Python SDK judge an emulator.

    sdk_judge.py BASE_URL SOURCE_KEY TARGET_KEY

BASE_URL is without /v1. The source must hold at least 40 users, the target may hold any. The SDK
(pydantic models generated from the same specification) refuses an answer that lacks a key, has a
wrong type or an unknown enum value, so every call that returns is a check of fidelity already; on
top of that each step asserts what it got. The SDK has no field for `starting_after`; the cursor is
therefore walked by plain requests whose pages are then read through the SDK's own model.

Prints what was checked and `N passed, M failed`; exits 1 on failure.
"""

import sys
import time
import traceback

import httpx
from clerk_backend_api import Clerk, models
from clerk_backend_api.utils import BackoffStrategy, RetryConfig

NO_RETRIES = RetryConfig("none", BackoffStrategy(1, 1, 1, 1), False)


class Judge:
    def __init__(self, base, source_key, target_key):
        self.base = base
        self.keys = {"source": source_key, "target": target_key}
        self.source = self.sdk(source_key)
        self.target = self.sdk(target_key)
        self.mark = f"{time.time_ns():x}"
        self.passed = self.failed = 0

    def sdk(self, key):
        return Clerk(bearer_auth=key, server_url=f"{self.base}/v1", retry_config=NO_RETRIES)

    def raw(self, method, path, side="target", **options):
        headers = {"authorization": f"Bearer {self.keys[side]}", **options.pop("headers", {})}
        return httpx.request(method, f"{self.base}/v1{path}", headers=headers, timeout=30, **options)

    def check(self, what, function):
        try:
            function()
        except Exception:
            self.failed += 1
            print(f"FAILED {what}")
            traceback.print_exc(limit=-3, file=sys.stdout)
        else:
            self.passed += 1
            print(f"passed {what}")

    def address(self, name):
        return f"{name}.{self.mark}@example.com"


def refused(call, status, code, param=None):
    """Runs a call that must be refused so."""
    try:
        call()
    except models.ClerkErrors as error:
        assert error.raw_response.status_code == status, (error.raw_response.status_code, str(error))
        found = [(e.code, (e.meta or {}).get("param_name")) for e in error.data.errors]
        assert any(c == code and (param is None or p == param) for c, p in found), found
        assert error.raw_response.headers["content-type"] == "application/json"
        return error
    except models.SDKError as error:
        # Statuses that the specification does not list for the operation arrive untyped.
        assert error.raw_response.status_code == status, str(error)
        body = error.raw_response.json()
        assert any(e["code"] == code for e in body["errors"]), body
        return error
    raise AssertionError(f"expected {status} {code}")


def offset_walk(judge):
    seen, offset = [], 0
    while True:
        page = judge.source.users.list(
            request={"limit": 37, "offset": offset, "order_by": "+created_at"}
        )
        seen += page
        if len(page) < 37:
            break
        offset += 37
    total = judge.source.users.count(request={}).total_count
    assert len(seen) == total == len({user.id for user in seen}) >= 40, (len(seen), total)
    keys = [(user.created_at, user.id) for user in seen]
    assert keys == sorted(keys)
    newest = judge.source.users.list(request={"limit": 500})
    assert [user.id for user in newest] == [user.id for user in reversed(seen)][: len(newest)]
    assert len(judge.source.users.list(request={})) == 10


def cursor_walk(judge):
    seen, after = [], None
    while True:
        query = {"limit": 23, "order_by": "+created_at"}
        if after:
            query["starting_after"] = after
        answer = judge.raw("GET", "/users", "source", params=query)
        assert answer.status_code == 200, answer.text
        page = [models.User.model_validate(user) for user in answer.json()]
        seen += [user.id for user in page]
        if len(page) < 23:
            break
        after = page[-1].id
    assert len(seen) == len(set(seen)) == judge.source.users.count(request={}).total_count
    for wrong in ({"order_by": "username"}, {"offset": 1}):
        answer = judge.raw("GET", "/users", "source", params={"starting_after": seen[3], **wrong})
        assert answer.status_code == 422, answer.text


def filters(judge):
    def pages(**request):
        found = []
        while True:
            page = judge.source.users.list(
                request={**request, "limit": 500, "offset": len(found), "order_by": "+created_at"}
            )
            found += page
            if len(page) < 500:
                return found

    everyone = pages()

    def same(found, expected):
        assert {user.id for user in found} == {user.id for user in expected} and expected

    some = [user for user in everyone if user.email_addresses][:20]
    asked = [user.email_addresses[0].email_address.upper() for user in some]
    same(judge.source.users.list(request={"email_address": asked, "limit": 500}), some)
    some = [user for user in everyone if user.phone_numbers][:3]
    asked = [user.phone_numbers[0].phone_number for user in some]
    same(judge.source.users.list(request={"phone_number": asked}), some)
    some = [user for user in everyone if user.username][:3]
    same(judge.source.users.list(request={"username": [user.username for user in some]}), some)
    some = [user for user in everyone if user.web3_wallets][:2]
    asked = [user.web3_wallets[0].web3_wallet for user in some]
    same(judge.source.users.list(request={"web3_wallet": asked}), some)
    some = [user for user in everyone if user.external_id][:5]
    asked = [f"+{user.external_id}" for user in some]
    same(judge.source.users.list(request={"external_id": asked}), some)
    same(judge.source.users.list(request={"user_id": [everyone[0].id]}), everyone[:1])
    excluded = [f"-{user.id}" for user in everyone[1:90]]
    found = pages(user_id=excluded)
    assert len(found) == len(everyone) - len(excluded)
    banned = [user for user in everyone if user.banned]
    same(pages(banned=True), banned)
    assert judge.source.users.count(request={"banned": False}).total_count == len(everyone) - len(banned)
    middle = everyone[len(everyone) // 2].created_at
    later = [user for user in everyone if user.created_at > middle]
    same(pages(created_at_after=middle), later)
    # Different filters must all hold.
    one = next(user for user in everyone if user.username and user.email_addresses)
    both = {"username": [one.username], "email_address": ["nobody@example.com"]}
    assert judge.source.users.list(request=both) == []
    same(judge.source.users.list(request={"query": one.id}), [one])


def limits_of_lists(judge):
    for limit in (0, 501, -1):
        refused(
            lambda limit=limit: judge.source.users.list(request={"limit": limit}),
            422, "form_param_value_invalid", "limit",
        )
    many = [f"x{number}@example.com" for number in range(101)]
    assert judge.source.users.list(request={"email_address": many[:100]}) == []
    refused(
        lambda: judge.source.users.list(request={"email_address": many}),
        422, "form_param_array_size_exceeded", "email_address",
    )


def create_minimal(judge):
    user = judge.target.users.create(email_address=[judge.address("minimal")])
    only = user.email_addresses[0]
    assert user.id.startswith("user_") and len(user.id) == 32
    assert user.primary_email_address_id == only.id and only.reserved is False
    assert only.verification.object.value == "verification_admin"
    assert user.external_id is None and user.username is None and user.last_sign_in_at is None
    assert user.delete_self_enabled and user.create_organization_enabled
    assert not (user.banned or user.locked or user.password_enabled or user.totp_enabled)
    assert user.public_metadata == {} and user.private_metadata == {} and user.unsafe_metadata == {}
    assert judge.target.users.get(user_id=user.id) == user


def full(judge):
    number = int(judge.mark, 16)
    return dict(
        external_id=f"full-{judge.mark}",
        first_name="Zoë", last_name="Þórsdóttir 🦊", locale="is-IS",
        email_address=[judge.address("Full"), judge.address("second"), judge.address("third")],
        email_address_identification_status=["verified", "reserved", "verified"],
        phone_number=[f"+1212{230 + number % 700:03}{number // 1000 % 10_000:04}"],
        phone_number_identification_status=["reserved"],
        web3_wallet=["0x" + f"{number:040x}"[-40:]],
        username=f"full_{judge.mark}",
        password_digest="$2b$10$" + "a" * 53, password_hasher="bcrypt",
        totp_secret="JBSWY3DPEHPK3PXP", backup_codes=["abcd-1234"],
        public_metadata={"a": {"b": [1, None, "ü"], "c": 1}, "big": 2**63 - 1},
        private_metadata={"secret": True}, unsafe_metadata={"theme": "dark"},
        delete_self_enabled=False, create_organization_enabled=False, create_organizations_limit=3,
        created_at="2021-02-03T04:05:06.789Z", legal_accepted_at="2021-02-03T04:05:07Z",
        bypass_client_trust=True, banned=True, locked=True,
        skip_password_checks=True, skip_legal_checks=False, skip_user_requirement=True,
    )


def create_full(judge):
    user = judge.target.users.create(**full(judge))
    assert user.created_at == 1612325106789 and user.legal_accepted_at == 1612325107000
    assert user.updated_at > user.created_at
    assert [email.reserved for email in user.email_addresses] == [False, True, False]
    assert user.email_addresses[1].verification is None
    assert user.phone_numbers[0].reserved and user.primary_phone_number_id == user.phone_numbers[0].id
    assert user.primary_web3_wallet_id == user.web3_wallets[0].id
    assert user.banned and user.locked and user.bypass_client_trust
    assert user.password_enabled and user.totp_enabled and user.two_factor_enabled
    assert user.backup_code_enabled and user.create_organizations_limit == 3
    assert user.public_metadata["big"] == 2**63 - 1 and user.locale == "is-IS"
    assert judge.target.users.get(user_id=user.id) == user
    found = judge.target.users.list(request={"external_id": [f"+{user.external_id}"]})
    assert found == [user]


def duplicates(judge):
    error = refused(lambda: judge.target.users.create(**full(judge)), 422, "form_identifier_exists")
    names = {e.meta["param_name"] for e in error.data.errors}
    assert names == {"email_address", "phone_number", "username", "web3_wallet", "external_id"}, names
    for name, value in (
        ("email_address", [judge.address("FULL").upper()]),
        ("username", f"FULL_{judge.mark}"),
        ("external_id", f"full-{judge.mark}"),
    ):
        body = {"email_address": [judge.address("other")], name: value}
        refused(lambda body=body: judge.target.users.create(**body), 422, "form_identifier_exists", name)


def wrong_bodies(judge):
    refused(lambda: judge.target.users.create(email_address=["nonsense"]), 422, "form_param_format_invalid", "email_address")
    refused(lambda: judge.target.users.create(phone_number=["12345"]), 422, "form_param_format_invalid", "phone_number")
    refused(lambda: judge.target.users.create(username="a b c d"), 422, "form_username_invalid_character", "username")
    refused(lambda: judge.target.users.create(first_name="Nobody"), 422, "form_data_missing")
    refused(
        lambda: judge.target.users.create(
            email_address=[judge.address("a"), judge.address("b")],
            email_address_identification_status=["verified"],
        ),
        422, "form_param_array_length_mismatch", "email_address_identification_status",
    )
    refused(
        lambda: judge.target.users.create(
            email_address=[judge.address("late")], created_at="yesterday"
        ),
        422, "form_param_invalid_time", "created_at",
    )
    refused(
        lambda: judge.target.users.create(
            email_address=[judge.address("large")], public_metadata={"x": "y" * 9000}
        ),
        422, "form_param_exceeds_allowed_size",
    )
    unknown = judge.raw("POST", "/users", json={"email_address": [judge.address("u")], "nope": 1, "id": 2})
    assert unknown.status_code == 422
    assert {e["meta"]["param_name"] for e in unknown.json()["errors"]} == {"nope", "id"}
    broken = judge.raw("POST", "/users", content=b"{", headers={"content-type": "application/json"})
    assert broken.status_code == 400 and broken.json()["errors"][0]["code"] == "request_body_invalid"
    typed = judge.raw("POST", "/users", json={"email_address": "a@example.com"})
    assert typed.status_code == 422, typed.text


def update(judge):
    user = judge.target.users.create(email_address=[judge.address("update")], first_name="Old")
    changed = judge.target.users.update(
        user_id=user.id, first_name="New", last_name=None, username=f"upd_{judge.mark}",
        external_id=f"upd-{judge.mark}", create_organizations_limit=7, delete_self_enabled=False,
    )
    assert (changed.first_name, changed.username) == ("New", f"upd_{judge.mark}")
    assert changed.create_organizations_limit == 7 and not changed.delete_self_enabled
    metadata = judge.raw("PATCH", f"/users/{user.id}", json={"public_metadata": {}})
    assert metadata.status_code == 422 and metadata.json()["errors"][0]["code"] == "form_param_unknown"
    refused(lambda: judge.target.users.update(user_id=user.id, external_id=f"full-{judge.mark}"), 422, "form_identifier_exists", "external_id")
    assert judge.target.users.get(user_id=user.id) == changed


def metadata(judge):
    user = judge.target.users.create(
        email_address=[judge.address("meta")], public_metadata={"a": {"b": 1, "c": 2}, "keep": [1]}
    )
    merged = judge.target.users.update_metadata(
        user_id=user.id, public_metadata={"a": {"b": None, "d": 3}}, private_metadata={"p": "q"}
    )
    assert merged.public_metadata == {"a": {"c": 2, "d": 3}, "keep": [1]}, merged.public_metadata
    assert merged.private_metadata == {"p": "q"}
    replaced = judge.target.users.replace_metadata(user_id=user.id, public_metadata={"only": True})
    assert replaced.public_metadata == {"only": True} and replaced.private_metadata == {"p": "q"}


def addresses(judge):
    user = judge.target.users.create(email_address=[judge.address("list")])
    loose = judge.target.email_addresses.create(
        request={"user_id": user.id, "email_address": judge.address("loose")}
    )
    assert loose.verification is None and loose.reserved is False
    firm = judge.target.email_addresses.create(
        request={"user_id": user.id, "email_address": judge.address("firm"), "verified": True, "primary": True}
    )
    now = judge.target.users.get(user_id=user.id)
    assert now.primary_email_address_id == firm.id and len(now.email_addresses) == 3
    # What is not verified may be shared.
    shared = judge.target.users.create(email_address=[judge.address("loose")])
    assert judge.target.email_addresses.get(email_address_id=loose.id).id == loose.id
    verified = judge.target.email_addresses.update(email_address_id=user.email_addresses[0].id, primary=True)
    assert verified.id == user.primary_email_address_id
    refused(lambda: judge.target.email_addresses.update(email_address_id=loose.id, verified=True), 400, "identification_claimed")
    gone = judge.target.email_addresses.delete(email_address_id=loose.id)
    assert gone.deleted and gone.id == loose.id
    phone = judge.target.phone_numbers.create(
        request={"user_id": shared.id, "phone_number": f"+1303{231 + int(judge.mark, 16) % 700:03}4567", "verified": True}
    )
    assert phone.verification.status.value == "verified"
    assert judge.target.phone_numbers.delete(phone_number_id=phone.id).deleted


def ban_and_lock(judge):
    user = judge.target.users.create(email_address=[judge.address("ban")])
    assert judge.target.users.ban(user_id=user.id).banned
    assert not judge.target.users.unban(user_id=user.id).banned
    assert judge.target.users.lock(user_id=user.id).locked
    assert not judge.target.users.unlock(user_id=user.id).locked


def delete(judge):
    user = judge.target.users.create(email_address=[judge.address("delete")], external_id=f"del-{judge.mark}")
    before = judge.target.users.count(request={}).total_count
    gone = judge.target.users.delete(user_id=user.id)
    assert gone.deleted and gone.id == user.id and gone.object == "user"
    assert judge.target.users.count(request={}).total_count == before - 1
    refused(lambda: judge.target.users.get(user_id=user.id), 404, "resource_not_found")
    refused(lambda: judge.target.users.delete(user_id=user.id), 404, "resource_not_found")
    again = judge.target.users.create(email_address=[judge.address("delete")], external_id=f"del-{judge.mark}")
    assert again.id != user.id


def keys(judge):
    refused(lambda: judge.sdk("sk_test_wrong").users.list(request={}), 401, "clerk_key_invalid")
    bare = httpx.get(f"{judge.base}/v1/users")
    assert bare.status_code == 401
    assert bare.json()["errors"][0]["code"] == "authorization_header_format_invalid"
    version = judge.raw("GET", "/users", headers={"clerk-api-version": "1999-01-01"})
    assert version.status_code == 400 and version.json()["errors"][0]["code"] == "api_version_invalid"


def instances(judge):
    source, target = judge.source.instance_settings.get(), judge.target.instance_settings.get()
    assert (source.environment_type, target.environment_type) == ("development", "production")
    assert source.id.startswith("ins_") and len(source.id) == 31 and source.id != target.id


def throttled(judge):
    address = f"{judge.base}/__emulator/settings"
    limit = {"limit": 5, "window_ms": 1000, "shape": "sliding", "count_refused": False}
    earlier = httpx.get(address, params={"instance": "target"}).json()["rate_limit"]
    httpx.put(address, params={"instance": "target"}, json={"rate_limit": limit}).raise_for_status()
    try:
        answers = [judge.raw("GET", "/users") for _ in range(8)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers[5:])
        error = refused(lambda: judge.target.users.list(request={}), 429, "too_many_requests")
        time.sleep(int(error.raw_response.headers["retry-after"]))
        assert judge.raw("GET", "/users").status_code == 200
    finally:
        httpx.put(address, params={"instance": "target"}, json={"rate_limit": earlier}).raise_for_status()


def main(arguments):
    if len(arguments) != 3:
        print(__doc__, file=sys.stderr)
        return 2
    judge = Judge(arguments[0].rstrip("/"), *arguments[1:])
    for what, step in (
        ("instances by key", instances),
        ("list by offset, order, default page, count", offset_walk),
        ("list by cursor", cursor_walk),
        ("filters", filters),
        ("limits of lists", limits_of_lists),
        ("create, minimal", create_minimal),
        ("create, full", create_full),
        ("duplicates", duplicates),
        ("wrong bodies", wrong_bodies),
        ("update", update),
        ("metadata, merged and replaced", metadata),
        ("email addresses and phone numbers", addresses),
        ("ban and lock", ban_and_lock),
        ("delete and not found", delete),
        ("keys and versions", keys),
        ("rate limit", throttled),
    ):
        judge.check(what, lambda step=step: step(judge))
    print(f"{judge.passed} passed, {judge.failed} failed")
    return 1 if judge.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
