"""What registries answer and their clients print, as recorded in public reports: the next step."""

from __future__ import annotations

import pytest

from hpcstate.container.refusal import next_step

ANSWERS = {
    # docker/hub-feedback and many CI logs; kubelet's line of the same
    "limit, Docker": (
        "toomanyrequests: You have reached your unauthenticated pull rate limit. "
        "https://www.docker.com/increase-rate-limit",
        "docker login r.example, wait",
    ),
    "limit, containerd": (
        "unexpected status code https://r.example/v2/: 429 Too Many Requests",
        "no more for now",
    ),
    # datalad/datalad-container#225
    "denied": (
        "conveyor failed to get: reading manifest latest in docker.io/debian/stable-slim: errors:\n"
        "denied: requested access to the resource is denied\nunauthorized: authentication required",
        "is its name right?",
    ),
    # aorwall/SWE-bench-docker#14
    "scope": (
        "pull access denied, repository does not exist or may require authorization: server message: "
        "insufficient_scope: authorization failed",
        "docker login r.example",
    ),
    # librelane/librelane#785
    "tag": (
        "conveyor failed to get: GET https://ghcr.io/v2/a/a/manifests/2: MANIFEST_UNKNOWN: manifest unknown",
        "list of tags",
    ),
    "machine, Docker": (
        "no matching manifest for linux/amd64 in the manifest list entries",
        "other machines only",
    ),
    # Aider-AI/aider#3760
    "time": ('Head "https://registry-1.docker.io/v2/": dial tcp 192.0.2.1:443: i/o timeout', "HTTPS_PROXY"),
    "name": ("dial tcp: lookup r.example on 192.0.2.53:53: no such host", "no name server knows r.example"),
    "authority": (
        "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        "update-ca",
    ),
    "plain": ("http: server gave HTTP response to HTTPS client", "without TLS"),
    "proxy": ("received unexpected HTTP status: 502 Bad Gateway", "in trouble"),
    "nothing known": ("FATAL: While performing build: something else", ""),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_a_registry_has_a_next_step(name: str) -> None:
    output, step = ANSWERS[name]
    found = next_step(output, ["r.example"])
    assert step in found if step else found == ""
    assert "{" not in found
