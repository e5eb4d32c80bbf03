# What a node runs: one "name<tab>version" a line, nothing for what is not there.
#
# sh versions.sh
say() { [ -z "$2" ] || printf '%s\t%s\n' "$1" "$2"; }

say "Slurm" "$(sinfo --version 2>/dev/null | sed 's/^slurm[^ ]* //')"
say "Apptainer" "$(apptainer --version 2>/dev/null | sed 's/^apptainer version //')"
say "system" "$(sed -n 's/^PRETTY_NAME="\(.*\)"$/\1/p' /etc/os-release 2>/dev/null)"
say "kernel" "$(uname -r)"
