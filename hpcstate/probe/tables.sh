# Of which version the tables of accounting are, and what slurmdbd says of them; on a controller, for root.
# database=NAME user=USER sh tables.sh
#   silent         MariaDB does not answer
#   there          slurmdbd's tables are in the database
#   version N      of them, as slurmdbd noted it
#   code N         the exit code of `slurmdbd -u`: 1 for a conversion that is due and for every error
#   said TEXT      its last line
database=${database:?} user=${user:?}

ask() { timeout 20 mariadb --batch --skip-column-names --execute "$1" 2>/dev/null; }

if ! ask 'SELECT 1' >/dev/null; then
  echo silent
  exit 0
fi
if [ -z "$(ask "SHOW TABLES IN \`$database\` LIKE 'cluster_table'")" ]; then exit 0; fi
echo there
ask "SELECT version FROM \`$database\`.convert_version_table LIMIT 1" | sed 's/^/version /'
code=0
said=$(timeout 60 setpriv --reuid="$user" --regid="$user" --init-groups slurmdbd -u 2>&1) || code=$?
echo "code $code"
printf '%s\n' "$said" | sed -n '$s/^/said /p'
