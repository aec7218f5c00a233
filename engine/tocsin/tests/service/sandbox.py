"""Runs a service under what its unit file allows, without systemd.

sandbox.py UNIT -- COMMAND...    becomes the command
sandbox.py UNIT --root DIR       runs ExecStartPre= and becomes ExecStart=, as User=, with DIR as root

In force, as the unit says it: User= (with --root), NoNewPrivileges=, CapabilityBoundingSet=, UMask=, Limit*=,
Environment=, SystemCallFilter= (a call it forbids kills), RestrictAddressFamilies= (others kill), MemoryDenyWriteExecute=.
With --root also a mount namespace: root read-only but for StateDirectory= and /dev/shm, private /tmp and
homes (ProtectSystem=strict, ProtectHome=, PrivateTmp=, PrivateMounts=, ProtectProc=). Not in force: the other Protect*= and Private*= directives, which need systemd or take nothing away that a
test could miss.
"""

import ctypes
import ctypes.util
import grp
import os
import pwd
import resource
import socket
import subprocess
import sys

KILL, ALLOW = 0x80000000, 0x7FFF0000
EQUAL, MASKED_EQUAL = 4, 7
PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP = 38, 24
PROT_EXEC, PROT_WRITE = 4, 2
CLONE_NEWNS = 0x00020000


class Compare(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64)]


def directives(path):
    """Directives of [Service], each with its values in order."""
    found, section = {}, ""
    for line in open(path):
        line = line.strip()
        if line.startswith("["):
            section = line
        elif line and not line.startswith("#") and section == "[Service]":
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


def members(name):
    """System calls of a set of systemd's, sets within it resolved."""
    if not name.startswith("@"):
        return {name}
    text = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name], check=True, capture_output=True, text=True
    ).stdout
    lines = [line.strip() for line in text.splitlines()[1:]]
    return set().union(*(members(line) for line in lines if line and not line.startswith("#")))


def allowed(filters):
    """What the lines of SystemCallFilter= allow together; @default always is."""
    calls = set()
    for value in filters:
        names = set().union(*(members(name) for name in value.removeprefix("~").split()))
        calls = calls - names if value.startswith("~") else calls | names
    return calls | members("@default")


def filter_calls(unit):
    lib = ctypes.CDLL(ctypes.util.find_library("seccomp") or "libseccomp.so.2")
    lib.seccomp_init.restype = ctypes.c_void_p
    lib.seccomp_rule_add_array.argtypes = [
        ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(Compare),
    ]
    lib.seccomp_load.argtypes = [ctypes.c_void_p]
    context = lib.seccomp_init(KILL)

    def rule(action, name, *compares):
        number = lib.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            array = (Compare * max(len(compares), 1))(*compares)
            failed = lib.seccomp_rule_add_array(context, action, number, len(compares), array)
            if failed not in (0, -17):
                sys.exit(f"seccomp rule for {name}: {failed}")

    conditional = {"socket", "mmap", "mprotect"}
    # Whoever is root gives files to the owner of data_dir; the unit's user never does.
    as_root = set() if root else {"lchown", "fchown"}
    for name in (allowed(unit["SystemCallFilter"]) | as_root) - conditional:
        rule(ALLOW, name)
    families = [getattr(socket, family) for family in " ".join(unit["RestrictAddressFamilies"]).split()]
    for family in families:
        rule(ALLOW, "socket", Compare(0, EQUAL, family, 0))
    # MemoryDenyWriteExecute=: nothing writable becomes executable.
    rule(ALLOW, "mmap", Compare(2, MASKED_EQUAL, PROT_EXEC, 0))
    rule(ALLOW, "mmap", Compare(2, MASKED_EQUAL, PROT_EXEC | PROT_WRITE, PROT_EXEC))
    rule(ALLOW, "mprotect", Compare(2, MASKED_EQUAL, PROT_EXEC, 0))
    return lambda: lib.seccomp_load(context) == 0 or sys.exit("the filter does not load")


def limits(unit):
    for name, values in unit.items():
        if name.startswith("Limit"):
            number = getattr(resource, "RLIMIT_" + name.removeprefix("Limit"))
            value = resource.RLIM_INFINITY if values[-1] == "infinity" else int(values[-1])
            hard = resource.getrlimit(number)[1]
            try:
                resource.setrlimit(number, (value, value))
            except (ValueError, PermissionError):
                resource.setrlimit(number, (hard, hard))


def enter(root, state):
    """A mount namespace of its own, with `root` as root, read-only where the unit wants it."""
    if libc.unshare(CLONE_NEWNS) != 0:
        sys.exit("no mount namespace")

    def run(*arguments):
        subprocess.run(["mount", *arguments], check=True)

    run("--make-rprivate", "/")
    run("--bind", root, root)
    run("-o", "remount,bind,ro", root)
    for writable in [f"var/lib/{state}", "dev/shm"]:
        run("--bind", f"{root}/{writable}", f"{root}/{writable}")
        run("-o", "remount,bind,rw", f"{root}/{writable}")
    for private in ["tmp", "var/tmp", "home", "root"]:
        run("-t", "tmpfs", "-o", "mode=1777", "tmpfs", f"{root}/{private}")
    run("-t", "proc", "-o", "hidepid=invisible", "proc", f"{root}/proc")
    for device in ["null", "urandom"]:
        run("--bind", f"/dev/{device}", f"{root}/dev/{device}")


libc = ctypes.CDLL(None, use_errno=True)
unit = directives(sys.argv[1])
root = sys.argv[3] if sys.argv[2] == "--root" else None
if root:
    command = unit["ExecStart"][-1].split()
else:
    command = sys.argv[3:]
apply_filter = filter_calls(unit)
limits(unit)
os.umask(int(unit["UMask"][-1], 8))
for value in unit.get("Environment", []) if root else []:
    name, text = value.split("=", 1)
    os.environ[name] = text
if root:
    # Numbers of the users of that root, not of this machine.
    entries = (line.split(":") for line in open(f"{root}/etc/passwd"))
    uid, gid = next((int(e[2]), int(e[3])) for e in entries if e[0] == unit["User"][-1])
    enter(root, unit["StateDirectory"][-1])
    os.chroot(root)
    os.chdir("/")
    os.setgroups([])
for capability in range(64):
    libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
if root:
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
if "LISTEN_FDS" in os.environ:
    os.environ["LISTEN_PID"] = str(os.getpid())
apply_filter()
for before in unit.get("ExecStartPre", []) if root else []:
    child = os.fork()
    if child == 0:
        os.execv(before.split()[0], before.split())
    if os.waitpid(child, 0)[1] != 0:
        os._exit(1)
os.execv(command[0], command)
