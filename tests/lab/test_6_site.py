"""A site's own deploys and templates on a living cluster: added, changed, removed. The long lab."""

from __future__ import annotations

from pathlib import Path

from hpcstate.node.ssh import Live
from hpcstate.node.work_files import MOTD
from tests.lab.conftest import hpcstate, pyinfra, results

DEPLOY = """from pyinfra import host
from pyinfra.context import config

from operations import text_files
from operations.text_files import TextFile

config.SUDO = True

text_files.put(name="Site file", files=[TextFile("/etc/lab-site", f"{host.data.role} %s\\n")])
"""


def deploy(file: Path) -> dict[str, set[str]]:
    done = pyinfra(file, "--json", "-y")
    assert done.returncode == 0, done.stderr[-3000:]
    again = pyinfra(file, "--json", "-y")
    assert (again.returncode, results(again.stdout)) == (0, {}), "a second deploy changes something"
    return results(done.stdout)


def test_a_site_has_its_own(live: Live, cluster_file: Path, tmp_path: Path) -> None:
    before, nodes = cluster_file.read_text(), {node.name for node in live.nodes}
    own, template = tmp_path / "one.py", tmp_path / "templates" / "base" / "motd.sh.j2"
    template.parent.mkdir(parents=True)
    own.write_text(DEPLOY % "first")
    template.write_text("# of the site\n{% include 'base/motd.sh.j2' %}")
    ours = live.run("controller", f"cat {MOTD}").stdout
    try:
        cluster_file.write_text(f"{before}    site: {{deploys: [{own}], templates: {tmp_path}/templates}}\n")
        plan = hpcstate("plan", str(cluster_file))
        assert "Site file" in plan.stdout and "message of the day" in plan.stdout, plan.stdout + plan.stderr
        changed = deploy(cluster_file)
        assert [hosts for name, hosts in changed.items() if "Site file" in name] == [nodes]
        assert live.run("controller", f"cat {MOTD}").stdout == f"# of the site\n{ours}"
        assert live.run("compute-01", "cat /etc/lab-site").stdout == "compute first\n"

        own.write_text(DEPLOY % "second")
        deploy(cluster_file)
        assert live.run("controller", "cat /etc/lab-site").stdout == "controller second\n"

        template.write_text("{{ nobody_gives_this }}\n")
        refused = pyinfra(cluster_file, "--json", "-y")
        assert refused.returncode != 0 and "nobody_gives_this" in refused.stderr, refused.stderr[-2000:]
        assert "Traceback" not in refused.stderr
    finally:
        cluster_file.write_text(before)
        deploy(cluster_file)
        live.run_each(dict.fromkeys(nodes, "rm -f /etc/lab-site"), user="root")
    assert live.run("controller", f"cat {MOTD}").stdout == ours
