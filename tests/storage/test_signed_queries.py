"""Signed queries as the SDKs of the stores write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from azure.storage.blob import BlobSasPermissions, UserDelegationKey, generate_blob_sas

from taxonomist.storage.signed_queries import without_signature

SIGNED = {
    "S3, version 4": "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Content-Sha256=UNSIGNED-PAYLOAD&X-Amz-Credential=AK%2F2026"
    "%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20261126T120000Z&X-Amz-Expires=900&X-Amz-Security-Token=FwoG%2F%2F"
    "&X-Amz-Signature={0}&X-Amz-SignedHeaders=host",
    "S3, version 2": "AWSAccessKeyId=AKIA&Signature={0}&Expires=1795000000&x-amz-security-token=Fwo",
    "Google Cloud, version 4": "X-Goog-Algorithm=GOOG4-RSA-SHA256&X-Goog-Credential=me%40project.iam&X-Goog-Date=202611"
    "26T120000Z&X-Goog-Expires=3600&X-Goog-SignedHeaders=host&X-Goog-Signature={0}",
    "Google Cloud, version 2": "GoogleAccessId=me%40project.iam&Expires=1795000000&Signature={0}",
    "CloudFront, canned policy": "Expires=1795000000&Signature={0}&Key-Pair-Id=K2JCJMDEHXQW5F",
    "CloudFront, own policy": "Policy=eyJTdGF0&Signature={0}&Key-Pair-Id=K2JCJMDEHXQW5F&Hash-Algorithm=SHA256",
    "Azure, account": "sv=2024-11-04&ss=b&srt=o&sp=r&se=2026-12-01T00:00:00Z&st=2026-11-01T00:00:00Z&spr=https"
    "&sip=10.0.0.1&sig={0}",
    "Azure, with a policy of the container": "sv=2024-11-04&si=readers&sr=c&sig={0}",
    "ImageSharp.Web": "signature={0}",
    "another server": "expires=1795000000&signature={0}",
    "another server, a short name": "sig={0}",
}


def azure(*, delegated: bool, minutes: int) -> str:
    key = UserDelegationKey()  # type: ignore[no-untyped-call]
    key.signed_oid, key.signed_tid, key.signed_service, key.signed_version = "me", "tenant", "b", "2024-11-04"
    key.signed_start, key.signed_expiry, key.value = "2026-11-26T00:00:00Z", "2026-11-27T00:00:00Z", "a2V5"
    return generate_blob_sas(
        "account",
        "container",
        "a.jpg",
        permission=BlobSasPermissions(read=True),
        start=datetime(2026, 11, 26, tzinfo=UTC),
        expiry=datetime(2026, 11, 26, tzinfo=UTC) + timedelta(minutes=minutes),
        protocol="https",
        ip="10.0.0.1",
        content_disposition="inline",
        **({"user_delegation_key": key} if delegated else {"account_key": "a2V5"}),
    )


@pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED)
def test_the_parameters_of_a_signature_are_removed_and_all_others_stay(query: str) -> None:
    signed = query.format("9f86d081884c7d659a2feaa0c55ad015")
    assert without_signature(signed) == ""
    assert without_signature(f"id=1&{signed}&w=%C3%A4+b") == "id=1&w=%C3%A4+b"


@pytest.mark.parametrize("delegated", [False, True])
def test_what_azures_sdk_signs(delegated: bool) -> None:
    assert without_signature(azure(delegated=delegated, minutes=5)) == ""
    assert without_signature(f"snapshot=2026&{azure(delegated=delegated, minutes=9)}") == "snapshot=2026"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "id=1",
        "sv=1&sp=2&st=3&se=4&sr=5&si=6",
        "Expires=1&Policy=2&Key-Pair-Id=3",
        "sig=left",
        "X-Amz-Date=1&X-Amz-Expires=2",
        "design=1&assig=2",
        "versionId=1",
        "&&a&=b",
    ],
)
def test_a_query_without_a_signature_stays_as_it_is(query: str) -> None:
    assert without_signature(query) == query


def test_only_the_parameters_of_the_own_family_are_removed() -> None:
    assert without_signature("policy=left&expires=1&signature=x") == "policy=left"
    assert without_signature("sv=1&sp=2&X-Amz-Signature=x") == "sv=1&sp=2"
    assert without_signature("x-amz-date=today&sv=1&sig=x") == "x-amz-date=today"
    assert without_signature("Signature=x&AWSAccessKeyId=y&Key-Pair-Id=5") == "Key-Pair-Id=5"
