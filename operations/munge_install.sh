# Puts the munge key that comes on standard input, in base64, at PATH: sh munge_install.sh PATH, behind replace_file.sh.
# It is decoded once before anything is replaced: a key that was cut short on its way must not take the place of a whole
# one, and a pipe does not tell. munged reads the key only when it starts; a daemon that is not running is left alone.
key=$(cat)
printf %s "$key" | base64 -d >/dev/null && printf %s "$key" | base64 -d | replace_file "$1" 400 munge:munge &&
  { systemctl reset-failed munge 2>/dev/null || :; } && systemctl try-restart munge
