# A directory on a node of the lab, as root: certificates, and people of whom some want to be somebody else.
#   sh slapd.sh HOST ADDRESS KEY     carol's key; the certificate of the authority goes to standard output
set -eu
host=$1 address=$2 key=$3
mkdir -p /srv/lab-ldap/db
cd /srv/lab-ldap
exec 3>&1 >&2
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 30 -subj '/CN=lab'
openssl req -newkey rsa:2048 -nodes -keyout ldap.key -out ldap.csr -subj "/CN=$host"
printf 'subjectAltName=DNS:%s,IP:%s\n' "$host" "$address" >names
openssl x509 -req -in ldap.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out ldap.pem -days 30 -extfile names
cat >slapd.conf <<'X'
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
include /srv/lab-ldap/keys.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile /srv/lab-ldap/ldap.pem
TLSCertificateKeyFile /srv/lab-ldap/ldap.key
disallow bind_anon
require authc
security simple_bind=128
database mdb
suffix "dc=lab"
directory /srv/lab-ldap/db
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=sssd,dc=lab" read by * none
X
cat >keys.schema <<'X'
attributetype ( 1.3.6.1.4.1.24552.500.1.1.1.13 NAME 'sshPublicKey' EQUALITY octetStringMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.40 )
objectclass ( 1.3.6.1.4.1.24552.500.1.1.2.0 NAME 'ldapPublicKey' SUP top AUXILIARY MAY ( sshPublicKey $ uid ) )
X
# person NAME NUMBER GROUP
person() {
  printf 'dn: uid=%s,dc=lab\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\nobjectClass: ldapPublicKey\n' "$1"
  printf 'cn: %s\nsn: %s\nuid: %s\nuidNumber: %s\ngidNumber: %s\nhomeDirectory: /nowhere/%s\n' "$1" "$1" "$1" "$2" "$3" "$1"
  printf 'loginShell: /bin/zsh\nsshPublicKey: %s\n\n' "$key"
}
# group NAME NUMBER MEMBER...
group() {
  printf 'dn: cn=%s,dc=lab\nobjectClass: posixGroup\ncn: %s\ngidNumber: %s\n' "$1" "$1" "$2"
  shift 2
  for each; do printf 'memberUid: %s\n' "$each"; done
  echo
}
{
  printf 'dn: dc=lab\nobjectClass: dcObject\nobjectClass: organization\no: lab\ndc: lab\n\n'
  printf 'dn: cn=sssd,dc=lab\nobjectClass: person\ncn: sssd\nsn: sssd\nuserPassword: lab secret\n\n'
  person carol 7010 7000
  person stranger 7011 7001
  person alice 7012 7000
  person thief 2001 7000
  group hpcusers 7000
  group others 7001
  group sudo 7200 carol
  group evil 27 carol
} | slapadd -f slapd.conf
chown -R openldap:openldap /srv/lab-ldap
systemctl disable --quiet --now slapd
systemd-run --quiet --unit=lab-slapd slapd -d 0 -u openldap -g openldap -f /srv/lab-ldap/slapd.conf -h 'ldap:///'
cat ca.pem >&3
