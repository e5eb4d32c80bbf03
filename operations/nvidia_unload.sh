# Takes NVIDIA's old modules out, so that the new ones can be loaded; where one is in use, a reboot is left.
# sh nvidia_unload.sh UNIT...: units that are stopped, to be started again: the device number of nvidia-uvm may become
# another. By environment: modules (where sysfs has them).
systemctl stop "$@" 2>/dev/null
# In the order in which they can be removed: each uses the last one.
for module in nvidia_drm nvidia_peermem nvidia_uvm nvidia_modeset nvidia; do
  if [ -d "${modules:-/sys/module}/$module" ]; then rmmod "$module" || break; fi
done
:
