# Cancel jobs of checks that wait for ten minutes: the run that they belong to was killed, no check waits for so long. Prints
# their numbers.
#
# prefix=NAME sh left.sh
now=$(date +%s)
squeue --noheader --me --states=PENDING --format='%i %V %j' | while read -r id since name; do
  case $name in
  "${prefix:?}"*)
    if [ $((now - $(date -d "$since" +%s))) -gt 600 ]; then scancel --quiet "$id" && echo "$id"; fi
    ;;
  esac
done
