"""The relay is tested on loopback: `python -m unittest test_relay`."""

import socket
import socketserver
import threading
import unittest

from relay import Loop, Relay

#: For an answer that must come, in seconds.
PATIENCE = 10.0


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while piece := self.request.recv(1024):
            self.request.sendall(piece)


class ARelay(unittest.TestCase):
    def setUp(self):
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.loop = Loop()
        self.relay = Relay(self.loop, self.server.server_address).start()

    def tearDown(self):
        self.relay.end()
        self.loop.end()
        self.server.shutdown()
        self.server.server_close()

    def connection(self):
        client = socket.create_connection(("127.0.0.1", self.relay.port), timeout=PATIENCE)
        self.addCleanup(client.close)
        return client

    def ask(self, client):
        """The answer; nothing when the connection was reset."""
        try:
            client.sendall(b"hello")
            return client.recv(1024)
        except ConnectionError:
            return b""

    def test_delivers_after_a_silence_what_was_said_in_it(self):
        client = self.connection()
        self.assertEqual(self.ask(client), b"hello")
        with self.relay.being("silent"):
            client.sendall(b"late")
            client.settimeout(0.1)
            self.assertRaises(TimeoutError, client.recv, 1024)
        client.settimeout(PATIENCE)
        self.assertEqual(client.recv(1024), b"late")

    def test_stays_cut_until_the_last_one_who_cut_it_lifts_it(self):
        with self.relay.being("cut"):
            with self.relay.being("cut"), self.relay.being("silent"):
                self.assertEqual(self.ask(self.connection()), b"")
            self.assertEqual(self.ask(self.connection()), b"")
        self.assertEqual(self.ask(self.connection()), b"hello")

    def test_is_silent_still_when_a_cut_in_its_silence_is_over(self):
        with self.relay.being("silent"):
            with self.relay.being("cut"):
                self.assertEqual(self.ask(self.connection()), b"")
            client = self.connection()
            client.sendall(b"late")
            client.settimeout(0.1)
            self.assertRaises(TimeoutError, client.recv, 1024)
        client.settimeout(PATIENCE)
        self.assertEqual(client.recv(1024), b"late")


if __name__ == "__main__":
    unittest.main()
