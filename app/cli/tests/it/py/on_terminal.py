"""Runs a program on a terminal of its own and tells what it did to it, as JSON.

on_terminal.py AWAITED KEY PROGRAM ARGS...: when AWAITED was printed, KEY is pressed;
of signal:SIGHUP the signal is sent.
"""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

awaited, key, program = sys.argv[1].encode(), sys.argv[2].encode(), sys.argv[3:]
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))


def echoes():
    return bool(termios.tcgetattr(slave)[3] & termios.ECHO)


pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2):
        os.dup2(slave, fd)
    os.closerange(3, 20)
    # Whoever runs the tests may have had it ignored, as nohup does.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.execv(program[0], program)

screen, pressed, echo_during, code, began = b"", None, None, None, time.monotonic()
while code is None and time.monotonic() - began < 50:
    if select.select([master], [], [], 0.05)[0]:
        screen += os.read(master, 65536)
    if pressed is None and awaited in screen:
        pressed, echo_during = time.monotonic(), echoes()
        if key.startswith(b"signal:"):
            os.kill(pid, getattr(signal, key[7:].decode()))
        elif key:
            os.write(master, key)
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        code = os.waitstatus_to_exitcode(status)
ended = time.monotonic()
while select.select([master], [], [], 0.1)[0]:
    screen += os.read(master, 65536)
if code is None:
    os.kill(pid, 9)
print(json.dumps({
    "code": code,
    "screen": screen.decode("utf-8", "replace"),
    "echo_during": echo_during,
    "echo_after": echoes(),
    "secs": ended - (pressed or began),
}))
