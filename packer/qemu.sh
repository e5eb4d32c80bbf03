#!/bin/sh
# QEMU, and once more where its machine comes to nothing as it boots, on a busy host without KVM (QEMU 10, TCG):
# - It aborts at an assertion (iotlb_to_section) while the guest maps its devices.
# - The guest loses a timer interrupt and waits for it for ever; its kernel says so on the console, every minute.
# Each was seen twice in some 600 boots. Whoever kills this script (Packer does) ends its machine.
console=/dev/null
for word; do
    case $word in file:*) console=${word#file:} ;; esac
done
setpriv --pdeathsig KILL -- qemu-system-x86_64 "$@" &
machine=$!
(
    for _ in $(seq 120); do
        sleep 2
        kill -0 $machine || exit
        stalls=$(grep -c 'rcu_[a-z]* kthread starved for' "$console")
        [ "${stalls:-0}" -lt 2 ] || kill -ABRT $machine
    done
) >/dev/null 2>&1 &
watcher=$!
wait $machine
code=$?
kill $watcher 2>/dev/null
[ $code -eq 134 ] || exit $code # SIGABRT
echo "QEMU aborted, or its guest stalled: once more" >&2
exec qemu-system-x86_64 "$@"
