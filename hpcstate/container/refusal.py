"""Why a registry gave no image, by what its clients print, and the next step. Pure.

The texts are those of Apptainer 1.4.5 (go-containerregistry), buildah (containers/image) and Docker; a
registry that answers so is in tests/containers/test_refusals.py. The codes are those of the OCI Distribution
Specification, "Error Codes".
"""

from __future__ import annotations

import re
from collections.abc import Collection

_STEPS = (
    (
        r"toomanyrequests|\b429\b",
        "the registry gives this address no more for now (Docker Hub counts six hours): docker login "
        "{registry}, wait, or name the same image in another registry",
    ),
    (
        r"no child with platform|no image found in (?:image index|manifest list)|no matching manifest for",
        "it is there for other machines only: take an image that was made for this one",
    ),
    (
        r"unsupported MediaType[^\n]*manifest\.v1|no FSLayers|manifest schema ?v?1|schema1",
        "its format is older than 2017 (manifest schema 1), which nothing reads any more: take a later tag",
    ),
    (
        r"manifest unknown|MANIFEST_UNKNOWN",
        "the registry has this name, and neither this tag nor this digest: look into its list of tags",
    ),
    (r"name unknown|NAME_UNKNOWN", "the registry has no image of this name: is it written right?"),
    (
        r"authentication required|unauthorized|access.+denied|\bdenied\b|insufficient_scope",
        "is its name right? if it is private: docker login {registry}",
    ),
    (
        r"x509:|certificate signed by unknown authority",
        "its certificate is of no authority that this machine knows: put that of yours into "
        "/usr/local/share/ca-certificates and run update-ca-certificates",
    ),
    (
        r"HTTP response to HTTPS client",
        "it answers without TLS: an image is only taken from a registry with a certificate",
    ),
    (
        r"unexpected (?:HTTP )?status(?: code)?:? 5[0-9][0-9]|50[0234] (?:Internal|Bad|Service|Gateway)",
        "the registry itself is in trouble: try again later",
    ),
    (
        r"no such host|server misbehaving|Temporary failure in name resolution",
        "no name server knows {registry}: is it written right, and is this machine on the network?",
    ),
    (
        r"connection refused|i/o timeout|network is unreachable|no route to host|context deadline exceeded",
        "{registry} is not reached: behind a proxy, set HTTPS_PROXY",
    ),
)


def next_step(output: str, registries: Collection[str]) -> str:
    """What to do where ``output`` is that of a client that got nothing from one of ``registries``; empty
    where it says nothing that is known.
    """
    named = " or ".join(sorted(registries))
    for pattern, step in _STEPS:
        if re.search(pattern, output, re.IGNORECASE):
            return step.format(registry=named)
    return ""
