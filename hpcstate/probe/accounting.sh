# What records the jobs of a cluster, on its controller, for root: a line for each thing that is there.
# database=NAME user=USER client=SLURM_CONF applied=FOLDER clustername=FILE sh accounting.sh CLUSTER FILE...
#   file SHA256 MODE OWNER:GROUP PATH     of each FILE
#   applied SHA256 NAME                   of what the daemons were last started with
#   unit LOAD ACTIVE ENABLED NAME         as systemctl show has it; ENABLED is - where there is no unit
#   database NAME, grant TEXT             what MariaDB has, where it answers
#   answers                               slurmdbd does, which it does not without its database
#   cluster ID                            the number that slurmdbd gave to CLUSTER
#   state NAME|ID                         that of slurmctld's state
database=${database:?} user=${user:?} client=${client:?} applied=${applied:?} clustername=${clustername:?}
cluster=$1
shift

ask() { timeout 20 mariadb --batch --skip-column-names --execute "$1" 2>/dev/null || :; }

for file; do
  if [ -f "$file" ]; then
    echo "file $(sha256sum <"$file" | cut -d ' ' -f 1) $(stat --format '%a %U:%G' "$file") $file"
  fi
done
for file in "$applied"/*; do
  if [ -f "$file" ]; then echo "applied $(sha256sum <"$file" | cut -d ' ' -f 1) ${file##*/}"; fi
done
for unit in mariadb slurmdbd; do
  load='' active='' enabled=''
  shown=$(systemctl show --property=LoadState,ActiveState,UnitFileState "$unit.service" 2>/dev/null) || :
  while IFS='=' read -r key value; do
    case $key in
    LoadState) load=$value ;;
    ActiveState) active=$value ;;
    UnitFileState) enabled=$value ;;
    esac
  done <<EOF
$shown
EOF
  echo "unit ${load:-not-found} ${active:-inactive} ${enabled:--} $unit"
done
ask "SHOW DATABASES LIKE '$database'" | sed 's/^/database /'
ask "SHOW GRANTS FOR '$user'@'localhost'" | sed 's/^/grant /'
if [ -f "$client" ] && SLURM_CONF=$client timeout 20 sacctmgr ping >/dev/null 2>&1; then echo answers; fi
ask "SELECT id FROM \`$database\`.cluster_table WHERE name = '$cluster' AND deleted = 0" | sed 's/^/cluster /'
if [ -f "$clustername" ]; then echo "state $(cat "$clustername")"; fi
:
