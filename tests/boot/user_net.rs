//! `--net user`, and `--net tap:NAME`, with Linux in the guest: in a world that the tests make for themselves (network and mount namespaces with
//! servers, names and addresses of their own), and on this machine's loopback.

use crate::launcher::{Finished, Program, compile_for_guest};
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

/// A server for the guest; see its head.
const ECHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/boot/guest/echo.rs");

/// Says to a test that it is in its world.
const INSIDE: &str = "XLAUNCH_TEST_WORLD";

/// An address of the world that is neither loopback nor anything else that is refused, and one that is.
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const SERVER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Makes the world. A tap without anybody behind it has addresses like any other interface.
const WORLD: &str = "set -e; ip link set lo up; ip tuntap add dev world mode tap; ip link set world up
    ip addr add 198.51.100.1/24 dev world; ip addr add 169.254.169.254/32 dev world
    ip -6 addr add 2001:db8::1/64 dev world nodad; ip -6 route add default dev world
    echo '0 2147483647' >/proc/sys/net/ipv4/ping_group_range
    conf=$(mktemp); echo 'nameserver 127.0.0.1' >$conf; mount --bind $conf /etc/resolv.conf; rm $conf";

/// Configures the guest, if nobody has done so.
const SET_UP: &str = "ip link set eth0 up; ip addr add 10.0.2.15/24 dev eth0 2>/dev/null
    ip route add default via 10.0.2.2 2>/dev/null; echo nameserver 10.0.2.3 >/etc/resolv.conf
    say() { echo \"$@\"; }\n";

/// Whether this is the test in its world. Otherwise the test is run again there, by its name, and must succeed.
fn in_a_world(name: &str) -> bool {
    if env::var_os(INSIDE).is_some() {
        let made = Command::new("sh").args(["-c", WORLD]).status().unwrap();
        assert!(made.success(), "the world is not made");
        return true;
    }
    let possible = Command::new("unshare")
        .args(["-n", "-m", "sh", "-c", WORLD])
        .output();
    match possible {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            println!("skipped: no namespaces with taps can be made here: {why}");
            return false;
        }
        Err(error) => {
            println!("skipped: unshare does not run: {error}");
            return false;
        }
    }
    let again = Command::new("unshare")
        .args(["-n", "-m"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, complaint) = (text(&again.stdout), text(&again.stderr));
    assert!(again.status.success(), "{said}\n{complaint}");
    assert!(said.contains("1 passed"), "{said}");
    if let Some(skipped) = said.lines().find(|line| line.starts_with("skipped: ")) {
        println!("{skipped}");
    }
    false
}

/// The same bytes for the same length, everywhere.
fn pattern(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}

/// What the host's own program says of bytes, up to the first blank.
fn digest(bytes: &[u8]) -> String {
    let mut child = Command::new("md5sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split(' ').next().unwrap().to_owned()
}

/// Serves each connection in a thread of its own.
fn serve(
    at: impl Into<SocketAddr>,
    each: impl Fn(TcpStream) + Send + Clone + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind(at.into()).unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let each = each.clone();
            thread::spawn(move || each(stream.unwrap()));
        }
    });
    at
}

/// HTTP, as far as it takes to be asked for `/N`: N bytes.
fn http(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request = String::new();
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|len| len > 2) {
        request.push_str(&line);
        line.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or("/");
    let len: usize = path[1..].parse().unwrap_or(0);
    let header = format!("HTTP/1.0 200 OK\r\nContent-Length: {len}\r\n\r\n");
    // A client may have enough before the end.
    let _ = stream.write_all(header.as_bytes());
    let part = pattern(len.min(16_000_000));
    let mut left = len;
    while left > 0 && stream.write_all(&part[..left.min(part.len())]).is_ok() {
        left -= left.min(part.len());
    }
}

/// Says how many bytes came, when their end has come.
fn count(mut stream: TcpStream) {
    let mut all = Vec::new();
    if stream.read_to_end(&mut all).is_ok() {
        let _ = writeln!(stream, "{} {}", all.len(), digest(&all));
    }
}

/// TFTP, as far as it takes to be asked for a short file, whatever its name: the one thing with datagrams that busybox
/// can be told to do with anybody.
fn tftp(at: impl Into<SocketAddr>) -> SocketAddr {
    let socket = UdpSocket::bind(at.into()).unwrap();
    let at = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = vec![0; 2048];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            if buffer[..2] == [0, 1] {
                socket.send_to(b"\x00\x03\x00\x01hello\n", from).unwrap();
            }
        }
    });
    at
}

/// Answers every question about `server.test`: its addresses; no other name is there.
fn names() {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let answer = name_answer(&buffer[..len]);
            socket.send_to(&answer, from).unwrap();
        }
    });
}

fn name_answer(question: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"\x06server\x04test\x00";
    let name = 12 + NAME.len();
    let mut answer = question[..name.min(question.len())].to_vec();
    let end = question.iter().skip(12).position(|&byte| byte == 0);
    answer[2..4].copy_from_slice(&[0x81, 0x83]);
    answer[6..12].fill(0);
    if question.get(12..name) != Some(NAME) {
        answer = question[..12 + end.unwrap_or(0) + 5].to_vec();
        answer[2..4].copy_from_slice(&[0x81, 0x83]);
        answer[6..12].fill(0);
        return answer;
    }
    let kind = question[name + 1];
    answer.extend(&question[name..name + 4]);
    answer[3] = 0x80;
    let address = match kind {
        1 => SERVER.octets().to_vec(),
        28 => SERVER6.octets().to_vec(),
        _ => return answer,
    };
    answer[7] = 1;
    answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, address.len() as u8]);
    answer.extend(address);
    answer
}

/// Runs a script in a guest that has the network.
fn shell(xlaunch: &Program, arguments: &[&str], script: &str) -> Finished {
    let script = format!("{SET_UP}{script}");
    xlaunch.run(&[arguments, &["--", "sh", "-c", &script]].concat())
}

#[test]
fn a_guest_reaches_the_outside_and_nothing_else() {
    if !in_a_world("user_net::a_guest_reaches_the_outside_and_nothing_else") {
        return;
    }
    let Some(xlaunch) = Program::find() else {
        return;
    };
    serve((SERVER, 8000), http);
    serve((SERVER6, 8000), http);
    serve((SERVER, 9), count);
    tftp((SERVER, 69));
    names();
    // What nobody is to reach.
    serve((Ipv4Addr::LOCALHOST, 8000), http);
    serve((METADATA, 80), http);
    const SIZE: usize = 5_000_000;
    let finished = shell(
        &xlaunch,
        &[],
        &format!(
            "say down $(wget -q -O - http://server.test:8000/{SIZE} | md5sum)
            wget -q -O - http://server.test:8000/{SIZE} >/tmp/file
            say up $(nc server.test 9 </tmp/file)
            tftp -g -l /tmp/got -r it 198.51.100.1 && say datagram $(cat /tmp/got)
            ping -c 2 -W 5 198.51.100.1 >/dev/null && say ping
            ping -c 1 -W 5 10.0.2.2 >/dev/null && say gateway
            nslookup nosuch.test 2>&1 | grep -c NXDOMAIN | sed s/[1-9]/none/
            for it in 10.0.2.2:8000 127.0.0.1:8000 169.254.169.254 10.0.2.99 198.51.100.1:1; do
                wget -q -T 20 -O - http://$it/1 2>/dev/null || say no $it
            done
            for i in $(seq 100); do ip -6 route | grep -q default && break; sleep 0.1; done
            say six $(wget -q -O - http://[2001:db8::1]:8000/{SIZE} | md5sum)"
        ),
    );
    let down = digest(&pattern(SIZE));
    let expected = format!(
        "down {down} -\nup {SIZE} {down}\ndatagram hello\nping\ngateway\nnone\nno 10.0.2.2:8000\n\
         no 127.0.0.1:8000\nno 169.254.169.254\nno 10.0.2.99\nno 198.51.100.1:1\nsix {down} -\n"
    );
    assert_eq!(finished.text(), expected, "{finished}");
}

#[test]
fn short_connections_and_parallel_ones() {
    if !in_a_world("user_net::short_connections_and_parallel_ones") {
        return;
    }
    let Some(xlaunch) = Program::find() else {
        return;
    };
    serve((SERVER, 9), count);
    let rounds = if env::var_os("XLAUNCH_LONG").is_some_and(|it| it == "1") {
        1000
    } else {
        50
    };
    let finished = shell(
        &xlaunch,
        &[],
        &format!(
            "for i in $(seq {rounds}); do echo $i | nc 198.51.100.1 9; done | wc -l
            head -c 50000 /dev/zero >/tmp/file
            for i in $(seq 64); do nc 198.51.100.1 9 </tmp/file >/tmp/all.$i & done; wait
            cat /tmp/all.* | sort | uniq -c"
        ),
    );
    let zeros = digest(&[0; 50_000]);
    let words: Vec<String> = finished
        .text()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    assert_eq!(
        words,
        [&rounds.to_string(), "64", "50000", &zeros],
        "{finished}"
    );
}

#[test]
fn a_long_download_arrives_as_it_was() {
    if !in_a_world("user_net::a_long_download_arrives_as_it_was") {
        return;
    }
    let Some(xlaunch) = Program::find_for_long() else {
        return;
    };
    serve((SERVER, 8000), http);
    let size = 1 << 30;
    let finished = shell(
        &xlaunch,
        &[],
        &format!("wget -q -O - http://198.51.100.1:8000/{size} | md5sum"),
    );
    let part = pattern(16_000_000);
    let whole: Vec<u8> = part.iter().copied().cycle().take(size).collect();
    assert_eq!(
        finished.text(),
        format!("{}  -\n", digest(&whole)),
        "{finished}"
    );
}

#[test]
fn the_host_s_loopback_is_the_gateway_where_that_is_allowed() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let http = serve((Ipv4Addr::LOCALHOST, 0), http);
    let datagrams = tftp((Ipv4Addr::LOCALHOST, 0));
    let script = format!(
        "wget -q -O - http://10.0.2.2:{}/100000 | md5sum
        tftp -g -l /tmp/got -r it 10.0.2.2 {} 2>/dev/null && cat /tmp/got",
        http.port(),
        datagrams.port()
    );
    let allowed = shell(&xlaunch, &["--allow-host"], &script);
    let sum = digest(&pattern(100_000));
    assert_eq!(allowed.text(), format!("{sum}  -\nhello\n"), "{allowed}");
    let refused = shell(&xlaunch, &[], &script);
    let nothing = digest(&[]);
    assert_eq!(refused.text(), format!("{nothing}  -\n"), "{refused}");
}

#[test]
fn a_tap_leads_to_the_kernel_of_the_host() {
    if !in_a_world("user_net::a_tap_leads_to_the_kernel_of_the_host") {
        return;
    }
    let Some(xlaunch) = Program::find() else {
        return;
    };
    serve((SERVER, 8000), http);
    serve((SERVER, 9), count);
    const SIZE: usize = 3_000_000;
    let script = format!(
        "ip addr flush dev eth0; ip addr add 198.51.100.2/24 dev eth0; ip link set eth0 up
        wget -q -O /tmp/file http://198.51.100.1:8000/{SIZE}; nc 198.51.100.1 9 </tmp/file"
    );
    let finished = xlaunch.run(&["--net=tap:world", "--", "sh", "-c", &script]);
    let expected = format!("{SIZE} {}\n", digest(&pattern(SIZE)));
    assert_eq!(finished.text(), expected, "{finished}");
}

#[test]
fn images_that_ask_get_their_address() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let finished = xlaunch.run(&[
        "--",
        "sh",
        "-c",
        "ip link set eth0 up; printf '#!/bin/sh\necho $1 $ip $mask $router $dns $mtu $lease' >/tmp/told
        chmod +x /tmp/told; udhcpc -i eth0 -n -q -f -O mtu -s /tmp/told 2>/dev/null",
    ]);
    let lease = "deconfig\nbound 10.0.2.15 24 10.0.2.2 10.0.2.3 1500 86400\n";
    assert_eq!(finished.text(), lease, "{finished}");
}

/// Where the guest's ports are, from what the program says of them.
fn published(complaint: &mut impl BufRead, port: &str) -> SocketAddr {
    let mut line = String::new();
    complaint.read_line(&mut line).unwrap();
    let place = line
        .trim_end()
        .rsplit_once(&format!("the guest's port {port} is at "));
    let (_, address) = place.unwrap_or_else(|| panic!("{line}"));
    address.parse().unwrap()
}

/// Asks until somebody answers: the guest is not up at once, nor is its server.
fn insist<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(answer) = ask() {
            return answer;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("nobody answers");
}

#[test]
fn published_ports_lead_to_the_guest() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let script = format!(
        "{SET_UP}cat >/tmp/echo; chmod 755 /tmp/echo
        (while nc -l -p 80 -e cat; do :; done) & /tmp/echo"
    );
    let place = tempfile::TempDir::new().unwrap();
    let program = place.path().join("echo");
    compile_for_guest(ECHO, &program);
    let mut running = xlaunch.start(&["-p", "0:80", "-p=0:53/udp", "--", "sh", "-c", &script]);
    let mut stdin = running.child().stdin.take().unwrap();
    thread::spawn(move || stdin.write_all(&std::fs::read(program).unwrap()));
    let mut complaint = BufReader::new(running.child().stderr.take().unwrap());
    let tcp = published(&mut complaint, "80");
    let udp = published(&mut complaint, "53/udp");
    assert!(tcp.ip().is_loopback() && udp.ip().is_loopback());

    let data = pattern(300_000);
    let echoed = insist(|| {
        let mut stream = TcpStream::connect(tcp).ok()?;
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream.write_all(b"?").ok()?;
        stream.read_exact(&mut [0]).ok()?;
        // It is there: from now on nothing may go wrong.
        let mut writer = stream.try_clone().unwrap();
        let sent = data.clone();
        let feeder = thread::spawn(move || {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        feeder.join().unwrap();
        Some(all)
    });
    assert!(echoed == data);

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(500)))
        .unwrap();
    insist(|| {
        socket.send_to(b"hello", udp).unwrap();
        let mut buffer = [0; 16];
        let (len, from) = socket.recv_from(&mut buffer).ok()?;
        assert_eq!((&buffer[..len], from), (&b"hello"[..], udp));
        Some(())
    });
    running.signal("KILL");
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_boots() {
    let Some(xlaunch) = Program::find() else {
        return;
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let finished = xlaunch.run(&["-p", &format!("{port}:80"), "--", "true"]);
    assert_eq!(finished.code(), 125, "{finished}");
    let complaint = finished.complaint();
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(
        complaint.contains(&format!("cannot publish 127.0.0.1:{port}:80: ")),
        "{complaint}"
    );
    assert!(complaint.contains("or 0 for any"), "{complaint}");
}
