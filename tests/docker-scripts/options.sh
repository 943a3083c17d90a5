#!/bin/sh
# Options of attachments, mounts, streams and images that scripts give less often.
set -eu
docker rm -f options-box options-peer >/dev/null 2>&1 || true
docker network rm options-net options-aux >/dev/null 2>&1 || true
docker volume rm options-data >/dev/null 2>&1 || true
echo "-- networks"
docker network create --attachable --ipv4=true --scope local --subnet 10.213.78.0/24 --aux-address router=10.213.78.2 options-aux >/dev/null
docker network inspect -v options-aux | jq -c '.[0] | [.Attachable, .EnableIPv4, .IPAM.Driver, .IPAM.Config[0].AuxiliaryAddresses]'
docker network create --subnet 10.213.79.0/24 options-net >/dev/null
docker run --rm --network name=options-net,ip=10.213.79.9,mac-address=02:42:0a:d5:4f:09,driver-opt=com.docker.network.endpoint.ifname=lan0 busybox \
  sh -c 'ip -4 -o addr show lan0 | awk "{ print \$4 }"; cat /sys/class/net/lan0/address'
docker run --rm --network options-net --link-local-ip 169.254.7.7 busybox ip -4 -o addr show eth0 | awk '{ print $4 }' | sort
docker run -d --name options-box --network options-aux busybox sleep 1000 >/dev/null
docker run -d --name options-peer --network options-net busybox sleep 1000 >/dev/null
docker exec options-box ip -4 -o addr show eth0 | awk '{ print $4 }'
docker network connect --ip 10.213.79.77 --alias box --gw-priority 5 --link options-peer:friend options-net options-box
docker exec options-box ip route show default | grep -c 'via 10.213.79.1'
docker exec options-box nslookup -type=a friend 2>/dev/null | grep -c "10.213.79" || true
docker inspect options-box | jq -c '.[0].NetworkSettings.Networks["options-net"] | [.IPAddress, .GwPriority]'
for wrong in "--network name=options-net,foo=1" "--network alias=x" "--network name=options-net,gw-priority=x"; do
  code=0; docker run --rm $wrong busybox true >/dev/null 2>/tmp/options.err || code=$?
  head -1 /tmp/options.err; echo "exit $code"
done
echo "-- mounts"
docker volume create options-data >/dev/null
docker run --rm --mount src=options-data,dst=/data busybox sh -c 'mkdir /data/sub; echo within >/data/sub/file'
docker run --rm --mount type=volume,src=options-data,dst=/data,volume-subpath=sub,readonly busybox sh -c 'cat /data/file; touch /data/new 2>&1 | grep -c "Read-only"'
docker run --rm --mount '"type=tmpfs","dst=/scratch","tmpfs-size=1048576","tmpfs-mode=0750"' busybox sh -c 'df -k /scratch | awk "NR == 2 { print \$2 }"; stat -c %a /scratch'
docker run --rm --mount type=bind,src=/etc/hostname,dst=/x,readonly,bind-recursive=readonly,bind-propagation=rprivate busybox sh -c 'test -s /x && echo bound'
for wrong in type=bind,source=/tmp target=/x,foo=1 type=bind,src=/tmp,dst=/x,volume-nocopy type=bind,dst=/x foo type=tmpfs,dst=/x,tmpfs-mode=9 type=bind,src=/tmp,dst=/x,readonly=maybe; do
  code=0; docker run --rm --mount "$wrong" busybox true >/dev/null 2>/tmp/options.err || code=$?
  head -1 /tmp/options.err | sed 's/.*for "--mount" flag: //; s/.*Error response from daemon: //'; echo "exit $code"
done
echo "-- streams and variables"
docker run --rm -a stdout busybox sh -c 'echo out; echo err >&2' 2>&1
docker run --rm -a stderr busybox sh -c 'echo out; echo err >&2' 2>&1
echo typed | docker run --rm -i -a stdin -a stdout busybox cat
code=0; docker run -d -a stdout busybox true >/dev/null 2>/tmp/options.err || code=$?
cat /tmp/options.err; echo "exit $code"
printf 'A=x y\n# no\n' >/tmp/options.env
docker exec --env-file /tmp/options.env -e C=3 options-box sh -c 'echo "$A $C"'
docker run --rm --entrypoint echo busybox -t --rm -v x
docker run --rm --entrypoint echo busybox --name=y
docker exec options-box echo -u 0
docker run --rm -c 512 --disable-content-trust=true --memory 64m busybox echo shares
docker cp -q options-box:/etc/hostname - | tar -xO | wc -c
echo "-- images"
docker image inspect --platform linux/amd64 -f '{{.Architecture}}' busybox
code=0; docker image history --platform linux/arm64 busybox >/dev/null 2>/tmp/options.err || code=$?
grep -c 'its platform (linux/amd64) does not match' /tmp/options.err; echo "exit $code"
code=0; docker run --rm --pull never --platform linux/arm64 busybox true >/dev/null 2>/tmp/options.err || code=$?
grep -c 'its platform (linux/amd64) does not match' /tmp/options.err; echo "exit $code"
code=0; docker pull -a busybox:latest >/dev/null 2>/tmp/options.err || code=$?
cat /tmp/options.err; echo "exit $code"
docker tag busybox options-image:one
docker rmi --no-prune options-image:one
docker rm -f options-box options-peer >/dev/null
docker network rm options-net options-aux
docker volume rm options-data
