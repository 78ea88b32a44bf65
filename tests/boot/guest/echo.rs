//! Gives datagrams back, as long as anybody wants it: busybox has no such server.

use std::net::UdpSocket;

fn main() {
    let socket = UdpSocket::bind("0.0.0.0:53").expect("the port is free");
    let mut buffer = [0; 2048];
    while let Ok((len, from)) = socket.recv_from(&mut buffer) {
        socket.send_to(&buffer[..len], from).expect("there is a way back");
    }
}
