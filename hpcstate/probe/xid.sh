# What NVIDIA's kernel modules have logged since the boot: "== journal" or "== dmesg" and the last message of each kind,
# after "== times N" where there were N of it; "== unreadable" without the right to read either (root, members of
# systemd-journal or adm).
# A kind is a message without its numbers and its process: a job in a loop logs thousands, and must not push out what
# another GPU, or the same one, said once. Where registers decide (NVIDIA's Xid catalog: 74, 144 to 150) they are kept.
# journalctl's own --grep is not used: it ends with 1 where nothing matches, and a message of several lines (those after
# its first are indented) would be torn. Parameter by environment: kept (so many kinds; more are one for each number).

keep() {
  awk -v kept="${kept:-2000}" '
    function of_xid(message, number, rest) {
      if (!match(message, /NVRM: Xid \([^)]*\): [0-9]+/)) return message
      number = substr(message, RSTART, RLENGTH)
      rest = substr(message, RSTART + RLENGTH)
      if (kinds >= kept) return number
      gsub(/pid=[^,]*,?|name=[^,]*,?/, "", rest)
      if (number ~ /: 14[4-9]$|: 150$/) {
        if (match(rest, /\(0x[0-9a-fA-F]+ 0x[0-9a-fA-F]+/)) rest = substr(rest, 1, RSTART + RLENGTH)
      } else if (number !~ /: 74$/) {
        gsub(/(0x)?[0-9a-fA-F]*[0-9][0-9a-fA-F]*/, "#", rest)
      }
      return number rest
    }
    function of_switch(message, kind) {
      kind = substr(message, index(message, "nvidia-nvswitch"))
      sub(/[Ll]ink [0-9]+/, "link", kind)
      return kind
    }
    function finish(kind) {
      if (message ~ /NVRM: Xid/) kind = of_xid(message)
      else if (message ~ /nvidia-nvswitch.*SXid.*(Fatal|Non-fatal)/) kind = of_switch(message)
      else if (match(message, /nvidia [0-9a-f:.]*: Unable to change power state from D3[a-z]* to D0/))
        kind = substr(message, RSTART)
      else if (message ~ /NVRM:.*(API mismatch|the version [0-9]|RmInitAdapter failed|fallen off|open kernel modules)/ ||
               message ~ /NVRM:.*(power cables|PostRxDetectLinkMask|postRxDetLinkMask)/ ||
               message ~ /NVRM:.*(BAR[0-5] is [0-9]*M @|Failed to re-allocate BAR)/ ||
               message ~ /NVRM:.*(pci_enable_device failed|find an IRQ|request_mem_region failed)/ ||
               message ~ /NVRM:.*(Legacy drivers|is not supported by)/)
        kind = substr(message, index(message, "NVRM:"))
      else
        return
      if (!(kind in last)) order[kinds++] = kind
      last[kind] = message
      times[kind]++
    }
    /^[0-9]/ { finish(); message = $0; next }
    { message = message "\n" $0 }
    END {
      finish()
      for (i = 0; i < kinds; i++) {
        if (times[order[i]] > 1) print "== times " times[order[i]]
        print last[order[i]]
      }
    }'
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
