# Checks a package where nobody but root can change it any more, then installs it, and removes its folder.
# sh apptainer_install.sh FILE SHA256 WORD...; WORDs are for apt-get install; by environment: apt_get (as env takes it).
# apt reads a local file as the user _apt (apt.conf(5), APT::Sandbox::User), so it is opened to all.
file=$1 sha256=$2
shift 2
# shellcheck disable=SC2086 # a program with its options
echo "$sha256  $file" | sha256sum --check --quiet && chmod 755 "${file%/*}" && chmod 644 "$file" &&
  env ${apt_get:-apt-get} install --no-install-recommends "$@" "$file"
code=$?
rm -rf "${file%/*}"
exit $code
