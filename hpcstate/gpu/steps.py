"""Next steps that several findings about GPUs share. ``{index}`` stands for nvidia-smi's index of the GPU."""

DRAINED_REBOOT = "drain the node, wait for its jobs and reboot it"
DRAINED_RESET = "drain the node, wait for its jobs and reset the GPU (nvidia-smi -r -i {index}), or reboot"
POWER = "drain the node, stop it, and power-cycle its host: a reboot brings no GPU back to the bus"
REPLACE = "replace the GPU (NVIDIA's RMA policy)"
