"""The machine in which Packer builds an image: all roles, build mode. Set up by hpcstate/image/packer.py."""

import os

if _lacking := [
    _name for _name in ("SECRETS", "PORT", "GROUPS") if f"HPCSTATE_IMAGE_{_name}" not in os.environ
]:
    raise SystemExit(
        f"HPCSTATE_IMAGE_{_lacking[0]} is not set: this inventory is for `doit build_images`, which sets it"
    )
_secrets = os.environ["HPCSTATE_IMAGE_SECRETS"]
_data = {
    "ssh_hostname": "127.0.0.1",
    "ssh_port": int(os.environ["HPCSTATE_IMAGE_PORT"]),
    "ssh_user": "packer",
    "ssh_key": f"{_secrets}/ssh_key",
    "ssh_known_hosts_file": f"{_secrets}/known_hosts",
    "ssh_strict_host_key_checking": "yes",
    "build_mode": True,
}
globals().update(
    {_group: [("image-build", _data)] for _group in os.environ["HPCSTATE_IMAGE_GROUPS"].split(",")}
)
