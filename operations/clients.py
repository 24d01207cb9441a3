"""Open boto3 sessions whose clients several threads may share, as boto3 promises.

A client has one TLS context, into which urllib3 loads the certificate authorities again for every connection. Where two
threads connect first, both add a lookup to the context's store, which OpenSSL 3 does without a lock, and the process
crashes in the handshake or when the client is freed: https://github.com/boto/botocore/issues/3164 and
https://github.com/openssl/openssl/issues/24480. Authorities that are loaded before the threads start are only read.
"""

from __future__ import annotations

import contextlib
from functools import cache
from typing import Any

import boto3
from botocore.httpsession import URLLib3Session, get_cert_path


def open_session(**arguments: Any) -> boto3.session.Session:
    """Return `boto3.session.Session(**arguments)`, with clients that threads may share."""
    _load_authorities_first()
    return boto3.session.Session(**arguments)


@cache
def _load_authorities_first() -> None:
    make_context = URLLib3Session._get_ssl_context

    def loaded(session: Any) -> Any:
        context = make_context(session)
        if session._verify:
            with contextlib.suppress(OSError):  # the first connection reports what is wrong with the file
                context.load_verify_locations(get_cert_path(session._verify))
        return context

    URLLib3Session._get_ssl_context = loaded
