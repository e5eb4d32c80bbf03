# What Prometheus says to a query, as JSON; for root on the controller. The password goes by standard input.
# name=CONTROLLER at=ADDRESS:PORT folder=FOLDER user=NAME sh prometheus_ask.sh QUERY
name=${name:?} at=${at:?} folder=${folder:?} user=${user:?}
printf 'user = "%s:%s"\n' "$user" "$(cat "$folder/scrape.password")" |
  curl --silent --show-error --fail --max-time 20 --config - --cacert "$folder/tls/ca.crt" --connect-to "::$at" \
    --get --data-urlencode "query=$1" "https://$name:${at##*:}/api/v1/query"
