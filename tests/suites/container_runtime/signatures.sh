# What container-exec makes of a container that nobody signed, one that somebody else did, an altered one and the
# cluster's own: "CASE CODE FIRST-LINE". Those that are not the cluster's are small ones; the altered one is the registry's
# own file with other bytes in its middle.
# sh signatures.sh FOLDER CONTAINER; FOLDER is made, and removed at the end. By environment: registry.
set -eu
folder=$1 container=$2
mkdir -m 700 "$folder"
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir tree
echo nothing >tree/file
mksquashfs tree part -quiet -no-progress >/dev/null
apptainer --silent sif new unsigned.sif
# A squashfs root for amd64.
apptainer --silent sif add --datatype 4 --parttype 2 --partfs 1 --partarch 2 --groupid 1 unsigned.sif part >/dev/null

cp unsigned.sif foreign.sif
openssl genpkey -algorithm ed25519 -out key.pem 2>/dev/null
apptainer --silent sign --key key.pem foreign.sif >/dev/null

cp "${registry:-/opt/containers}"/*/"$container.sif" altered.sif
chmod u+w altered.sif
middle=$(($(stat -c %s altered.sif) / 128))
head -c 64 /dev/urandom | dd of=altered.sif bs=64 seek=$middle conv=notrunc status=none

for case in unsigned foreign altered signed; do
  file=$case.sif
  if [ "$case" = signed ]; then file=$container; fi
  code=0
  container-exec "$file" true >said 2>&1 || code=$?
  echo "$case $code $(head -n 1 said)"
done
