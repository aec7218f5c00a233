"""Stops one thread of a process, and lets it go when standard input ends: hold_thread.py TID."""

import ctypes
import os
import sys

SEIZE, INTERRUPT, DETACH, WALL = 0x4206, 0x4207, 17, 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long
tid = int(sys.argv[1])


def ptrace(request):
    if libc.ptrace(request, tid, None, None) != 0:
        sys.exit(f"ptrace {request:#x}: {os.strerror(ctypes.get_errno())}")


ptrace(SEIZE)
ptrace(INTERRUPT)
os.waitpid(tid, WALL)
print("held", flush=True)
sys.stdin.read()
ptrace(DETACH)
