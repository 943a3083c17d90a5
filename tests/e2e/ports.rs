//! Published ports.

use crate::harness::{Host, eventually, free_port, http, own_address};

const SERVER: &str = "mkdir /www; echo hello from $HOSTNAME > /www/index.html; exec httpd -f -p 80 -h /www";

fn answer(address: &str) -> String {
    eventually(&format!("GET http://{address}/"), || match http("GET", address, "/", "")? {
        (200, body) => Ok(body.trim_end().to_owned()),
        (status, body) => Err(format!("{status}: {body}")),
    })
}

#[test]
fn a_published_port_is_reached_by_every_address_of_the_host() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let port = free_port();
    host.ok(&[
        "container",
        "run",
        "-d",
        "--name",
        "web",
        "-h",
        "web",
        "-p",
        &format!("{port}:80"),
        "busybox",
        "sh",
        "-c",
        SERVER,
    ]);
    assert_eq!(answer(&format!("127.0.0.1:{port}")), "hello from web");
    if let Some(address) = own_address() {
        assert_eq!(answer(&format!("{address}:{port}")), "hello from web");
    }
    // Another container comes in from outside its network, by the host's address.
    let gateway =
        host.json(&["network", "inspect", "bridge"])[0]["IPAM"]["Config"][0]["Gateway"].as_str().unwrap().to_owned();
    let fetched =
        host.ok(&["container", "run", "--rm", "busybox", "wget", "-qO-", &format!("http://{gateway}:{port}/")]);
    assert_eq!(fetched, "hello from web");
    assert!(host.ok(&["container", "ls"]).contains(&format!("0.0.0.0:{port}->80/tcp")));
    let shown = &host.inspect("web")["NetworkSettings"]["Ports"]["80/tcp"];
    assert_eq!(shown[0]["HostPort"], port.to_string());
    host.ok(&["container", "stop", "-t", "0", "web"]);
    assert!(http("GET", &format!("127.0.0.1:{port}"), "/", "").is_err(), "nobody answers after the stop");
    std::net::TcpListener::bind(("0.0.0.0", port)).expect("the port is free again");
}

#[test]
fn a_taken_port_is_refused_and_names_its_holder() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    let port = free_port();
    let publish = format!("{port}:80");
    host.ok(&["container", "run", "-d", "--name", "first", "-p", &publish, "busybox", "sleep", "1000"]);
    let said = host.fails(
        125,
        &["container", "run", "-d", "--rm", "--name", "second", "-p", &publish, "busybox", "sleep", "1000"],
    );
    assert!(said.contains(&port.to_string()) && said.contains("first"), "{said}");
    assert_eq!(host.ids().len(), 1, "the refused container is gone");
    let other = free_port();
    let listener = std::net::TcpListener::bind(("0.0.0.0", other)).unwrap();
    let publish = format!("{other}:80");
    let said = host.fails(125, &["container", "run", "-d", "--rm", "-p", &publish, "busybox", "sleep", "1000"]);
    assert!(said.contains(&other.to_string()) && said.contains(&std::process::id().to_string()), "{said}");
    drop(listener);
    host.ok(&["container", "run", "-d", "--rm", "-p", &publish, "busybox", "sleep", "1000"]);
}

#[test]
fn ports_can_be_chosen_by_the_kernel_bound_to_one_address_and_udp() {
    let Some(host) = Host::new(&["busybox"]) else { return };
    host.ok(&[
        "container",
        "run",
        "-d",
        "--name",
        "any",
        "-h",
        "any",
        "-p",
        "80",
        "-p",
        "127.0.0.1::81",
        "busybox",
        "sh",
        "-c",
        SERVER,
    ]);
    let ports = host.inspect("any")["NetworkSettings"]["Ports"].clone();
    let of = |target: &str| ports[target][0]["HostPort"].as_str().unwrap().parse::<u16>().unwrap();
    assert!(of("80/tcp") > 1024 && of("81/tcp") > 1024, "{ports}");
    assert_eq!(ports["81/tcp"][0]["HostIp"], "127.0.0.1");
    assert_eq!(answer(&format!("127.0.0.1:{}", of("80/tcp"))), "hello from any");
    if let Some(address) = own_address() {
        let local_only = http("GET", &format!("{address}:{}", of("81/tcp")), "/", "");
        assert!(local_only.is_err(), "{local_only:?}");
    }
}

#[test]
fn a_udp_port_is_published_too() {
    let Some(host) = Host::new(&["python:3.11-slim"]) else { return };
    let echo = "import socket\ns = socket.socket(type=socket.SOCK_DGRAM)\ns.bind(('', 7000))\nwhile True: s.sendto(*s.recvfrom(99))";
    host.ok(&["container", "run", "-d", "--name", "echo", "-p", "7000/udp", "python:3.11-slim", "python", "-c", echo]);
    let port = &host.inspect("echo")["NetworkSettings"]["Ports"]["7000/udp"][0]["HostPort"];
    let port = port.as_str().unwrap().parse::<u16>().unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    socket.connect(("127.0.0.1", port)).unwrap();
    let echoed = eventually("an echo over UDP", || {
        let mut buffer = [0; 16];
        socket.send(b"ping").map_err(|error| error.to_string())?;
        let count = socket.recv(&mut buffer).map_err(|error| error.to_string())?;
        Ok(buffer[..count].to_vec())
    });
    assert_eq!(echoed, b"ping");
}
