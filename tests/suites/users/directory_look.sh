# What a node has of the directory of people, a line each; for root:
#   sssd WORD               systemctl's word
#   conf MODE OWNER         of sssd.conf
#   server URI ok|REASON    whether it answers this node, and its certificate is verified
#   group GID NAME, person UID NAME, unknown NAME
#   seconds N               how long somebody waits who asks for a name that nobody has
# sh directory_look.sh [URI]... -- [GROUP]... -- [PERSON]...; by environment: conf, ca (paths; no ca: in the clear)
conf=${conf:?} ca=${ca-}

server() {
  scheme=${1%%:*}
  rest=${1#*//}
  host=${rest%%:*}
  case $rest in *:*) port=${rest#*:} ;; *) if [ "$scheme" = ldaps ]; then port=636; else port=389; fi ;; esac
  set -- timeout -k 2 10 openssl s_client -connect "$host:$port" -CAfile "$ca" -verify_return_error -verify_hostname "$host"
  if [ -z "$ca" ]; then
    set -- timeout -k 2 10 bash -c ": </dev/tcp/$host/$port"
  elif [ "$scheme" = ldap ]; then
    set -- "$@" -starttls ldap
  fi
  if said=$("$@" 2>&1 </dev/null); then
    echo ok
  else
    why=$(printf '%s\n' "$said" | sed -n 's/^verify error:num=[0-9]*://p; s/.*connect: *//p' | sed 's/:\.\.\/.*//' | head -n 1)
    echo "${why:-no answer in 10 s}"
  fi
}

printf 'sssd %s\n' "$(systemctl is-active sssd)"
if [ -e "$conf" ]; then printf 'conf %s\n' "$(stat -c '%a %U' "$conf")"; fi
kind=server
for word; do
  case $kind$word in
  server--) kind=group ;;
  group--) kind=person ;;
  server*) printf 'server %s %s\n' "$word" "$(server "$word")" ;;
  *)
    case $kind in group) map=group ;; *) map=passwd ;; esac
    number=$(timeout -k 2 20 getent -s sss "$map" "$word" | cut -d : -f 3)
    if [ -n "$number" ]; then printf '%s %s %s\n' "$kind" "$number" "$word"; else printf 'unknown %s\n' "$word"; fi
    ;;
  esac
done
begun=$(date +%s)
timeout -k 2 60 getent passwd "hpcstate-nobody-$$" >/dev/null
printf 'seconds %s\n' $(($(date +%s) - begun))
