# What nvidia-smi says of the GPUs: "== library NAME" of NVML's library, "== query" and the XML of `nvidia-smi -q -x`,
# "== list" and `nvidia-smi -L` where there are MIG devices; "== end CODE" behind each.
# Clocks are left out (most of the text, and some drivers print them as broken XML), and processes: they are the users'
# own. Behind nvidia_smi_bounded.sh; parameters by environment: root (before the library's path), limit (seconds).
root=${root-} limit=${limit:-20}

for file in "$root"/usr/lib/*/libnvidia-ml.so.1 "$root/usr/lib64/libnvidia-ml.so.1"; do
  if [ -e "$file" ]; then
    file=$(readlink -f "$file")
    printf '== library %s\n' "${file##*/}"
  fi
done
if command -v nvidia-smi >/dev/null 2>&1; then
  without='supported_clocks|processes|accounted_processes'
  query=$(bounded "$limit" "/<($without)>/{s=1} !s; /<\\/($without)>/{s=0}" -q -x)
  printf '== query\n%s\n' "$query"
  case $query in
  *'<mig_device>'*)
    echo '== list'
    bounded "$limit" 1 -L
    ;;
  esac
fi
