#!/bin/bash
# Every way in which a command tells how it went.
say() { echo "$1: $2"; }
docker rm -f codes codes-2 >/dev/null 2>&1
docker run --rm busybox true;                                         say true $?
docker run --rm busybox false;                                        say false $?
docker run --rm busybox sh -c 'exit 42';                              say "exit 42" $?
docker run --rm busybox no-such-command 2>/dev/null;                  say "not found" $?
docker run --rm busybox /etc 2>/dev/null;                             say "not executable" $?
docker run --rm --no-such-flag busybox true 2>/dev/null;              say "unknown flag" $?
docker run --rm --pull never no-such-image-anywhere true 2>/dev/null; say "no image" $?
docker run --rm -v /tmp:relative busybox true 2>/dev/null;            say "bad mount" $?
docker run --rm -w /made/for/it busybox pwd;                          say "working directory" $?
docker run --rm busybox sh -c 'kill -9 $$';                           say "killed itself" $?
docker run -d --name codes --init busybox sleep 1000 >/dev/null;      say "detached" $?
docker run -d --name codes busybox true >/dev/null 2>&1;              say "name taken" $?
docker exec codes true;                                               say "exec true" $?
docker exec codes sh -c 'exit 7';                                     say "exec exit 7" $?
docker exec codes no-such-command >/dev/null 2>&1;                    say "exec not found" $?
docker exec codes /etc >/dev/null 2>&1;                               say "exec not executable" $?
docker exec no-such-container true 2>/dev/null;                       say "exec nowhere" $?
docker start codes >/dev/null;                                        say "start again" $?
docker stop -t 5 codes >/dev/null;                                    say "stop" $?
docker inspect -f '{{.State.ExitCode}}' codes;                        say "inspect" $?
docker exec codes true 2>/dev/null;                                   say "exec in a stopped one" $?
docker start codes >/dev/null; docker kill codes >/dev/null;          say "kill" $?
docker wait codes;                                                    say "wait" $?
docker kill codes 2>/dev/null;                                        say "kill again" $?
docker start codes >/dev/null; docker kill -s TERM codes >/dev/null
docker wait codes;                                                    say "wait after TERM" $?
docker run --name codes-2 busybox sh -c 'exit 9';                     say "attached" $?
docker start -a codes-2;                                              say "start -a" $?
docker logs no-such-container 2>/dev/null;                            say "logs" $?
docker inspect no-such-object 2>/dev/null;                            say "inspect nothing" $?
docker rm no-such-container 2>/dev/null;                              say "rm nothing" $?
docker rm -f no-such-container 2>/dev/null;                           say "rm -f nothing" $?
docker stop no-such-container 2>/dev/null;                            say "stop nothing" $?
docker volume rm no-such-volume 2>/dev/null;                          say "volume rm" $?
docker network rm no-such-network 2>/dev/null;                        say "network rm" $?
docker image rm no-such-image 2>/dev/null;                            say "image rm" $?
docker no-such-command >/dev/null 2>&1;                               say "no command" $?
docker ps --no-such-flag >/dev/null 2>&1;                             say "ps flag" $?
docker ps --format '{{.NoSuchField}}' >/dev/null 2>&1;                say "ps field" $?
docker inspect -f '{{.NoSuchField}}' codes >/dev/null 2>&1;           say "inspect field" $?
docker rm -f codes codes-2 | sort
