# How the GPUs reach each other: "== topo" and `nvidia-smi topo -m`; nothing where there is no nvidia-smi.
# Behind nvidia_smi_bounded.sh; parameter by environment: limit (seconds).
if command -v nvidia-smi >/dev/null 2>&1; then
  echo '== topo'
  bounded "${limit:-20}" 1 topo -m
fi
