# An account that was deleted is made again, with the number that its files still have.
# sh account.sh NAME UID FOLDER HOME SHELL; UID may be empty: then it is the number that FOLDER belongs to.
uid=$2
if [ -z "$uid" ]; then uid=$(stat -c %u -- "$3"); fi
if [ -z "$uid" ] || [ "$uid" = 0 ]; then
  echo "the number of $1 is not known: $3 is missing or belongs to root. Make the node anew, or the account by hand." >&2
  exit 1
fi
getent group "$1" >/dev/null || groupadd --gid "$uid" "$1" || exit 1
useradd --system --uid "$uid" --gid "$1" --home-dir "$4" --no-create-home --shell "$5" "$1"
