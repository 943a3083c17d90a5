#!/bin/sh
# Looks addresses, ports and settings up with templates.
set -eu
docker rm -f addresses-web addresses-client >/dev/null 2>&1 || true
docker network rm addresses-net >/dev/null 2>&1 || true
docker network create --subnet 10.213.77.0/24 --gateway 10.213.77.1 --label owner=scripts addresses-net >/dev/null
docker run -d --name addresses-web --network addresses-net --ip 10.213.77.10 --hostname web-host \
  -p 127.0.0.1::80 -e GREETING="hello there" -e EMPTY= --label team=web --label 'note=a "quoted" one' \
  -w /etc --user 0:0 --memory 64m --cpus 0.5 --init --stop-signal SIGINT --add-host db:10.1.2.3 \
  --entrypoint httpd busybox -f -p 80 -h /etc >/dev/null
docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}} {{.IPPrefixLen}}{{end}}' addresses-web
docker inspect -f '{{range $name, $net := .NetworkSettings.Networks}}{{$name}}={{$net.IPAddress}}{{println}}{{end}}' addresses-web
docker inspect -f '{{.NetworkSettings.Networks.addresses_net}}' addresses-web || true
docker inspect -f '{{(index .NetworkSettings.Networks "addresses-net").IPAddress}}' addresses-web
docker inspect -f '{{json .Config.Env}}' addresses-web | jq -r '.[]' | grep -v ^PATH= | sort
docker inspect -f '{{range .Config.Env}}{{println .}}{{end}}' addresses-web | grep GREETING
docker inspect -f '{{json .Config.Entrypoint}} {{json .Config.Cmd}} {{.Path}} {{.Args}}' addresses-web
docker inspect -f '{{index .Config.Labels "team"}} {{.Config.Hostname}} {{.Config.WorkingDir}} {{.Config.User}} {{.Config.StopSignal}}' addresses-web
docker inspect -f '{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.Init}} {{.HostConfig.NetworkMode}} {{.HostConfig.ExtraHosts}}' addresses-web
docker inspect -f '{{with .Config.Labels}}{{range $k, $v := .}}{{$k}} is {{printf "%q" $v}};{{end}}{{end}}' addresses-web
port=$(docker inspect -f '{{(index (index .NetworkSettings.Ports "80/tcp") 0).HostPort}}' addresses-web)
[ "$port" = "$(docker port addresses-web 80/tcp | cut -d: -f2)" ] && echo "the same port"
[ "$port" = "$(docker port addresses-web 80 | sed 's/.*://')" ] && echo "again"
docker port addresses-web | sed "s/$port/PORT/"
i=0; until curl -fsS "http://127.0.0.1:$port/hosts" >/dev/null 2>&1 || [ $i -ge 300 ]; do i=$((i+1)); sleep 0.1; done
curl -fsS "http://127.0.0.1:$port/hosts" | grep -E 'web-host|db' | tr '\t' ' '
docker run --rm --name addresses-client --network addresses-net busybox wget -qO- http://addresses-web/hostname
docker network inspect -f '{{.Name}} {{.Driver}} {{(index .IPAM.Config 0).Subnet}} {{(index .IPAM.Config 0).Gateway}} {{.Labels.owner}}' addresses-net
docker network inspect addresses-net | jq -r '.[0].Containers[] | .Name + " " + .IPv4Address'
docker network ls --filter name=addresses --format '{{.Name}}|{{.Driver}}|{{.Scope}}'
docker network rm addresses-net 2>&1 | grep -c "active endpoints" || true
docker rm -f addresses-web
docker network rm addresses-net
