#!/bin/sh
# Each /judge/NAME.conf read by slurmdbd with a MariaDB of its own, inside of a throwaway root: what it says
# goes to NAME.log, how it ended to NAME.end (started, waits, or its exit code). Nothing here reaches the host:
# the caller unshares the mounts, the processes, the network and the name of the host.
set -eu
mkdir -p /run/mysqld /run/munge /run/slurm /etc/slurm /etc/munge /var/lib/judge
chown munge /run/munge /etc/munge
chown slurm /run/slurm
echo '127.0.0.1 localhost ctl' > /etc/hosts
head -c 1024 /dev/urandom > /etc/munge/munge.key
chown munge /etc/munge/munge.key
chmod 400 /etc/munge/munge.key
setpriv --reuid=munge --regid=munge --clear-groups /usr/sbin/munged --force
mariadb-install-db --no-defaults --force --user=root --datadir=/var/lib/judge \
    --auth-root-authentication-method=socket --skip-test-db > /judge/install.txt 2>&1
mariadbd --no-defaults --user=root --datadir=/var/lib/judge --socket=/run/mysqld/mysqld.sock \
    --bind-address=127.0.0.1 > /judge/mariadbd.txt 2>&1 &
database=$!
for _ in $(seq 300); do
    ! mariadb -e 'SELECT 1' > /dev/null 2>&1 || break
    sleep 0.2
done
mariadb -e "CREATE USER slurm@localhost IDENTIFIED VIA unix_socket; GRANT ALL ON *.* TO slurm@localhost"
for file in /judge/*.conf; do
    name=${file%.conf}
    install -o slurm -m 600 "$file" /etc/slurm/slurmdbd.conf
    rm -f /run/slurm/slurmdbd.pid
    code=
    : > "$name.log"
    slurmdbd -D > "$name.log" 2>&1 &
    daemon=$!
    for _ in $(seq 150); do
        if ! kill -0 "$daemon" 2> /dev/null; then
            code=0
            wait "$daemon" || code=$?
            break
        fi
        ! grep -q 'slurmdbd version .* started' "$name.log" || { code=started; break; }
        ! grep -q 'Trying again in 5 seconds' "$name.log" || { code=waits; break; }
        sleep 0.1
    done
    if [ "${code:-none}" != started ] && [ "${code:-none}" != waits ]; then
        echo "${code:-none}" > "$name.end"
    else
        echo "$code" > "$name.end"
        sleep 0.3
        kill -9 "$daemon" 2> /dev/null || :
        wait "$daemon" 2> /dev/null || :
    fi
done
kill "$database"
wait "$database" || :
