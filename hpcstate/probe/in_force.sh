# What is in force on this host, whatever its files say; for root. A line each:
#   host NAME, named NAME               the kernel's name of the host, and that in /etc/hostname
#   account LINE                        of passwd(5), for each of `accounts` that exists
#   place MODE OWNER:GROUP KIND|PATH    each PATH that exists
#   kernel KEY VALUE                    each of `kernel` that this kernel has
#   unit NAME=VALUE                     what systemd says of each of `units`; nothing behind "unit" ends one
#   rules loaded|file DIGEST            of the firewall's table as the kernel has it, and as the file would make it
#   clock answers, source LINE          chronyd, and each server that it follows
#   beside PATH                         a file that fits one of `beside`
#   sets PATH                           a file of systemd-sysctl or of a daemon's options that sets what `sets` fits
# The file of the firewall is loaded in a network namespace of its own, where it changes nothing: so the text that nft
# makes of it is compared with the text that nft makes of what is loaded.
# sh in_force.sh PATH...; by environment, lists separated by blanks: accounts, kernel (user.max_user_namespaces), units,
# table (inet hpcstate), rules (its file), beside (patterns of paths), sets (an extended regular expression), root (before
# each path but PATH).
root=${root-} rules=${rules-} table=${table-} sets=${sets-}

printf 'host %s\n' "$(uname -n)"
if read -r line 2>/dev/null <"$root/etc/hostname"; then printf 'named %s\n' "$line"; fi

# shellcheck disable=SC2086 # a list
if [ -n "${accounts-}" ]; then getent passwd $accounts | sed 's/^/account /'; fi

if [ $# -gt 0 ]; then stat -L -c 'place %a %U:%G %F|%n' -- "$@" 2>/dev/null; fi

for key in ${kernel-}; do
  file=$root/proc/sys/$(printf %s "$key" | tr . /)
  # Not by read, which takes a byte at a time: the kernel gives such a file in one piece or not at all.
  if line=$(cat "$file" 2>/dev/null); then printf 'kernel %s %s\n' "$key" "$line"; fi
done

# shellcheck disable=SC2086 # a list
if [ -n "${units-}" ]; then
  timeout 20 systemctl show --property=Id,LoadState,NeedDaemonReload,FragmentPath,DropInPaths $units 2>/dev/null |
    sed 's/^/unit /'
fi

if [ -n "$rules" ] && command -v nft >/dev/null; then
  # shellcheck disable=SC2086 # a family and a name
  printf 'rules loaded %s\n' "$(nft -s list table $table 2>/dev/null | sha256sum)"
  # shellcheck disable=SC2016 # the inner shell's
  printf 'rules file %s\n' "$(unshare --net sh -c 'nft -f "$1" && nft -s list table $2' sh "$root$rules" "$table" 2>/dev/null |
    sha256sum)"
fi

if [ -e "$root/run/chrony/chronyd.sock" ] && sources=$(timeout 5 chronyc -n -c sources 2>/dev/null); then
  echo clock answers
  if [ -n "$sources" ]; then printf '%s\n' "$sources" | sed 's/^/source /'; fi
fi

set -f
for pattern in ${beside-}; do
  set +f
  for file in "$root"$pattern; do
    if [ -e "$file" ]; then printf 'beside %s\n' "${file#"$root"}"; fi
  done
done
set +f

if [ -n "$sets" ]; then
  grep -lsE "$sets" "$root"/etc/sysctl.d/*.conf "$root"/run/sysctl.d/*.conf "$root"/usr/local/lib/sysctl.d/*.conf \
    "$root"/etc/default/munge "$root"/etc/default/slurmctld "$root"/etc/default/slurmd |
    while IFS= read -r file; do printf 'sets %s\n' "${file#"$root"}"; done
fi
:
