#!/bin/sh
# mmdebstrap --customize-hook: what makes a tree of packages a machine that boots and waits for cloud-init.
# $1 is the root; KERNEL_PARAMETERS comes from the image's image.yaml.
set -eu
root=$1
# Modes and owners are the image's, whatever those of the checkout are.
umask 022
cp -r --no-preserve=mode,ownership "$(dirname "$0")/files/." "$root/"
chmod 755 "$root/usr/lib/hpcstate/first-boot"

# GRUB for BIOS. core.img finds its file system by label, so the disk needs no device name; the parameters
# stand in /etc/default/grub, where update-grub of a later kernel finds them too.
grub=$root/boot/grub/i386-pc
mkdir -p "$grub"
cp "$root"/usr/lib/grub/i386-pc/*.mod "$root"/usr/lib/grub/i386-pc/*.lst "$root"/usr/lib/grub/i386-pc/boot.img "$grub"
# shellcheck disable=SC2016 # GRUB's own variable
printf 'search.fs_label hpcstate-root root\nset prefix=($root)/boot/grub\n' >"$grub/load.cfg"
chroot "$root" grub-mkimage -O i386-pc -o /boot/grub/i386-pc/core.img -p /boot/grub -c /boot/grub/i386-pc/load.cfg \
    biosdisk part_gpt ext2 search search_label normal linux linux16 configfile serial terminal echo test
cat >"$root/etc/default/grub" <<EOF
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX="$KERNEL_PARAMETERS"
GRUB_TERMINAL=console
GRUB_DISABLE_OS_PROBER=true
EOF
# linux16 copies the kernel's file to its place, linux the 60 MiB it may grow to, byte by byte: four seconds of
# software emulation. A later update-grub writes a grub.cfg of Debian's own.
cat >"$root/boot/grub/grub.cfg" <<EOF
set timeout=0
search --no-floppy --label hpcstate-root --set root
linux16 /vmlinuz root=LABEL=hpcstate-root ro $KERNEL_PARAMETERS
initrd16 /initrd.img
boot
EOF

# cloud-init: only the data source we serve, systemd-networkd without netplan, and no package work at boot.
cat >"$root/etc/cloud/cloud.cfg.d/90_hpcstate.cfg" <<EOF
datasource_list: [NoCloud, None]
system_info:
  network:
    renderers: [networkd]
apt_preserve_sources_list: true
disable_root: true
ssh_pwauth: false
manual_cache_clean: false
ssh_genkeytypes: [ed25519]
cloud_init_modules: [seed_random, growpart, resizefs, mounts, set_hostname, update_hostname, users_groups, ssh]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts_user, final_message]
EOF

# Generators run at each boot and each daemon-reload. cloud-init's asks which data source there is: it is the one
# above, so its target is simply enabled. The others look for what no node has: TPM, hibernation, AF_VSOCK,
# partitions to find by type, an update to finish.
generators=$root/etc/systemd/system-generators
mkdir -p "$generators" "$root/etc/systemd/system/multi-user.target.wants"
for name in cloud-init-generator systemd-tpm2-generator systemd-hibernate-resume-generator systemd-ssh-generator \
    systemd-gpt-auto-generator systemd-system-update-generator systemd-rc-local-generator systemd-run-generator; do
    ln -sf /dev/null "$generators/$name"
done
ln -sf /usr/lib/systemd/system/cloud-init.target "$root/etc/systemd/system/multi-user.target.wants/cloud-init.target"

# Nothing of the cluster runs before a deploy says so; nothing surprises a job by its own timer.
for unit in slurmctld slurmd slurmdbd munge mariadb prometheus prometheus-node-exporter chrony \
    e2scrub_reap.service e2scrub_all.timer apt-daily.timer apt-daily-upgrade.timer grub-common man-db.timer; do
    chroot "$root" systemctl disable --quiet "$unit" 2>/dev/null || :
done
# Each unit that starts at boot costs a node half a second of processor time under software emulation; these do
# nothing for one: no pstore, TPM, huge pages, debugging or binfmt by default. `systemctl unmask` brings any back.
chroot "$root" systemctl mask --quiet systemd-pstore.service dev-hugepages.mount sys-kernel-debug.mount \
    sys-kernel-tracing.mount proc-sys-fs-binfmt_misc.automount systemd-binfmt.service modprobe@efi_pstore.service \
    modprobe@dm_mod.service modprobe@drm.service modprobe@loop.service modprobe@configfs.service \
    sys-kernel-config.mount systemd-network-generator.service systemd-networkd-persistent-storage.service \
    systemd-hwdb-update.service systemd-journal-catalog-update.service systemd-update-done.service \
    systemd-firstboot.service ldconfig.service systemd-tpm2-setup.service systemd-tpm2-setup-early.service \
    systemd-pcrmachine.service systemd-pcrphase.service systemd-pcrphase-initrd.service \
    systemd-pcrphase-sysinit.service systemd-udev-load-credentials.service systemd-boot-random-seed.service \
    dpkg-db-backup.timer fstrim.timer getty@tty1.service
chroot "$root" systemctl enable --quiet systemd-networkd systemd-resolved ssh hpcstate-first-boot
# sshd-keygen would make keys of every type (a minute of prime numbers under emulation); the host key is given,
# and cloud-init makes one where it is not.
chroot "$root" systemctl mask --quiet systemd-networkd-wait-online.service sshd-keygen.service
printf 'HostKey /etc/ssh/ssh_host_ed25519_key\n' >"$root/etc/ssh/sshd_config.d/20-hostkey.conf"
ln -sf ../run/systemd/resolve/stub-resolv.conf "$root/etc/resolv.conf"

# Identity is given at first boot, never baked in.
rm -f "$root"/etc/ssh/ssh_host_* "$root/var/lib/dbus/machine-id"
: >"$root/etc/machine-id"
: >"$root/etc/hostname"
chroot "$root" passwd --quiet --lock root
