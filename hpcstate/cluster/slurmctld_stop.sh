# slurmctld and the database of its records stop, so that their state is whole; run as root: sh slurmctld_stop.sh
# Prints how slurmctld ended, as systemd has it (systemd.exec(5), SERVICE_RESULT): "success", or "timeout" where it was
# killed; nothing where it did not run.
set -eu
if systemctl --quiet is-active slurmctld; then
  systemctl stop slurmctld || :
  systemctl show --value --property=Result slurmctld
fi
for unit in slurmdbd mariadb; do
  if systemctl --quiet is-active "$unit"; then systemctl stop "$unit"; fi
done
sync
