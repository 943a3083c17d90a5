#!/bin/bash
# Two versions behind one name: labels, aliases, networks joined and left.
set -u
docker ps -aq --filter label=dkbg | xargs -r docker rm -f >/dev/null; docker network rm dkbgnet >/dev/null 2>&1
docker network create --label dkbg=1 dkbgnet >/dev/null
for c in blue green; do
  docker run -d --init --name dkbg-$c --label dkbg=$c --network dkbgnet --network-alias app -e COLOR=$c busybox sh -c 'mkdir /w; echo $COLOR > /w/index.html; exec httpd -f -p 8080 -h /w' >/dev/null
  until docker exec dkbg-$c wget -qO- http://127.0.0.1:8080/ >/dev/null 2>&1; do sleep 0.1; done
done
docker run --rm --network dkbgnet busybox sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do wget -qO- http://app:8080/; done | sort -u'
docker network disconnect dkbgnet dkbg-blue
docker run --rm --network dkbgnet busybox sh -c 'for i in 1 2 3 4; do wget -qO- http://app:8080/; done | sort -u'
docker network inspect dkbgnet --format '{{range .Containers}}{{.Name}}{{end}}'
docker network inspect dkbgnet --format '{{json .Labels}} {{.Driver}} {{len .IPAM.Config}}'
docker network connect --alias old dkbgnet dkbg-blue
docker run --rm --network dkbgnet busybox wget -qO- http://old:8080/
docker inspect dkbg-blue --format '{{range $k, $v := .NetworkSettings.Networks}}{{$k}}:{{$v.Aliases}} {{end}}' 
docker inspect dkbg-green --format '{{(index .NetworkSettings.Networks "dkbgnet").Aliases}}'
docker ps --filter label=dkbg=green --format '{{.Label "dkbg"}} {{.Networks}} {{.Image}}'
docker ps --filter label=dkbg --format 'table {{.Names}}\t{{.Image}}\t{{.State}}' | sort
docker ps --filter network=dkbgnet -q | wc -l
docker network rm dkbgnet >/dev/null 2>&1; echo "code $?"
for id in $(docker ps -q --filter label=dkbg); do docker inspect -f '{{.Name}} {{.Config.Labels.dkbg}}' $id; done | sort
docker stop -t 1 $(docker ps -q --filter label=dkbg) | wc -l
docker start dkbg-green dkbg-blue
docker restart -t 0 dkbg-green
docker logs --tail 5 dkbg-green; docker logs nosuch 2>&1
docker rm -f $(docker ps -aq --filter label=dkbg) | wc -l
docker network rm dkbgnet
docker network rm dkbgnet; echo "code $?"
docker network create --subnet 10.213.90.0/24 --gateway 10.213.90.1 --ip-range 10.213.90.128/25 -o com.docker.network.bridge.name=dkbr9 dkbgnet >/dev/null; docker network inspect -f '{{json .IPAM.Config}} {{json .Options}}' dkbgnet
docker network create --subnet 10.213.90.0/24 dkbg2; echo "code $?"
docker network create dkbgnet; echo "code $?"
docker network create --driver nosuch dkbg3; echo "code $?"
docker network connect nosuch dkbg-none; echo "code $?"
docker network connect dkbgnet dkbg-none; echo "code $?"
docker network disconnect dkbgnet dkbg-none; echo "code $?"
docker run --rm --network dkbgnet --ip 10.213.90.200 busybox sh -c 'ip -4 -o addr show eth0 | grep -o "10.213.90.[0-9/]*" | head -1'
docker network ls --filter name=dkbg --format '{{.Name}} {{.Driver}} {{.Scope}} {{.Internal}} {{.IPv6}}'
docker network ls --filter type=custom --filter name=dkbg -q | wc -l
docker network ls --filter dangling=true --filter name=dkbg --format '{{.Name}}'
docker network rm dkbgnet nosuch; echo "code $?"
