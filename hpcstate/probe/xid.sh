# What NVIDIA's kernel module has logged since the boot: "== journal" or "== dmesg" and the last lines of each kind,
# Xids first; "== unreadable" without the right to read either (root, members of systemd-journal or adm).
# journalctl's own --grep is not used: it ends with 1 where nothing matches, and each line of a message of several lines
# has the module's prefix anyway. Parameter by environment: kept (so many lines of each kind).

keep() {
  awk -v kept="${kept:-2000}" '
    { kind = "" }
    /NVRM: Xid/ { kind = "xid" }
    !kind && /NVRM:.*(API mismatch|the version [0-9]|RmInitAdapter failed|The NVIDIA GPU|PCI ID|in this system|fallen off)/ {
      kind = "other"
    }
    kind { line[kind, count[kind]++ % kept] = $0 }
    function show(kind, i) {
      for (i = count[kind] > kept ? count[kind] - kept : 0; i < count[kind]; i++) print line[kind, i % kept]
    }
    END { show("xid"); show("other") }'
}

journal() { timeout 20 journalctl -k -b -q --no-pager "$@" 2>/dev/null; }

buffer() { timeout 20 dmesg --time-format iso 2>/dev/null; }

if [ -n "$(journal -n 1)" ]; then
  echo '== journal'
  journal -o short-unix | keep
elif buffer >/dev/null; then
  echo '== dmesg'
  buffer | keep
else
  echo '== unreadable'
fi
