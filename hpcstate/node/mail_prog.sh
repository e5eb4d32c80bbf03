# Sends a mail about a job: slurmctld runs it as its own user, PROGRAM -s SUBJECT RECIPIENT, with what the mail is about in
# variables SLURM_JOB_* (slurm.conf(5), MailProg). What goes wrong is said on standard error and in the exit code; slurmctld
# writes that to its log. By environment: sender, cluster, relay (the file of msmtp).
set -eu
PATH=/usr/local/bin:/usr/bin:/bin
sender=${sender:?} cluster=${cluster:?} relay=${relay:?}
export LC_ALL=C

if [ $# -ne 3 ] || [ "$1" != -s ]; then
  echo "usage: $0 -s SUBJECT RECIPIENT" >&2
  exit 64
fi
# It is what a user wrote (--mail-user): no further header, no option.
case $3 in
'' | -* | *[!A-Za-z0-9._%+=@,-]*)
  echo "$3 is no address" >&2
  exit 65
  ;;
esac
subject=$(printf %s "$2" | tr -d '\000-\037\177' | cut -c 1-200)
case $subject in
*[!\ -~]*) subject="=?UTF-8?B?$(printf %s "$subject" | base64 -w 0)?=" ;;
esac

{
  printf 'From: %s (cluster %s)\nTo: %s\nSubject: %s\nDate: %s\n' "$sender" "$cluster" "$3" "$subject" "$(date -R)"
  # No answer of an absent person comes back (RFC 3834).
  printf 'Auto-Submitted: auto-generated\nMIME-Version: 1.0\nContent-Type: text/plain; charset=UTF-8\n'
  printf 'Content-Transfer-Encoding: 8bit\n\n%s\n\n' "$2"
  env | sed -n 's/^SLURM_\(JOB_[A-Z_]*\)=/\1=/p' | sort
  if [ "${SLURM_JOB_ID-}" ]; then printf '\nseff %s on the cluster %s says what it used.\n' "$SLURM_JOB_ID" "$cluster"; fi
} | {
  # shellcheck disable=SC2046 # addresses without blanks
  timeout --kill-after=5 120 msmtp --file="$relay" -- $(printf %s "$3" | tr , ' ')
}
