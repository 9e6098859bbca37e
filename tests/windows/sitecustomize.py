"""Windows, simulated on Linux, in each Python that is started with this folder in $PYTHONPATH.

Python imports a module of this name when it starts. The package and its tests, but not the standard
library and other packages, find what Windows has: no `fcntl`, no `os.fork`, no `signal.SIGKILL`;
`os.name` and `sys.platform` of Windows; `os.kill` and `signal.signal` as they are there. Whoever
replaces, renames or removes a file that any process has open is refused. Paths stay those of Linux.
"""

import builtins
import ctypes
import os
import signal
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

# What Windows does not have: modules, and functions of `os`.
MODULES = "fcntl grp pty pwd readline resource syslog termios tty"
FUNCTIONS = """
    WCOREDUMP WEXITSTATUS WIFCONTINUED WIFEXITED WIFSIGNALED WIFSTOPPED WNOHANG WSTOPSIG WTERMSIG
    chown chroot confstr copy_file_range ctermid environb eventfd fchdir fchmod fchown fdatasync
    fork forkpty fpathconf fstatvfs fwalk getegid getenvb geteuid getgid getgrouplist getgroups
    getloadavg getpgid getpgrp getpriority getrandom getresgid getresuid getsid getuid getxattr
    initgroups killpg lchown listxattr lockf login_tty makedev memfd_create mkfifo mknod nice
    openpty pathconf pidfd_open pipe2 posix_fadvise posix_fallocate posix_spawn posix_spawnp pread
    preadv pwrite pwritev readv register_at_fork removexattr sched_getaffinity sched_getparam
    sched_getscheduler sched_setaffinity sched_setparam sched_setscheduler sched_yield sendfile
    setegid seteuid setgid setgroups setpgid setpgrp setpriority setregid setresgid setresuid
    setreuid setsid setuid setxattr spawnlp spawnlpe spawnvp spawnvpe splice statvfs sync sysconf
    tcgetpgrp tcsetpgrp ttyname uname wait wait3 wait4 waitid writev
"""
# What it has of such names.
FLAGS = "O_RDONLY O_WRONLY O_RDWR O_CREAT O_EXCL O_TRUNC O_APPEND"
SIGNALS = "SIGABRT SIGFPE SIGILL SIGINT SIGSEGV SIGTERM SIG_DFL SIG_IGN"
OURS = ("fastmnist", "tests", "benchmarks")
TESTS = str(Path(__file__).parent.parent)


def is_ours(namespace):
    """Whether code that runs in `namespace` belongs to the package or its tests."""
    name, file = namespace.get("__name__") or "", namespace.get("__file__") or ""
    return name.partition(".")[0] in OURS or file.startswith(TESTS)


def is_open(path):
    """Whether any process has the file open."""
    try:
        wanted = os.stat(path)
    except OSError:
        return False
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.path.samestat(os.stat(descriptor), wanted):
                return True
        except OSError:  # closed, or somebody else's
            pass
    return False


def refuse(path):
    """Raise what Windows does if somebody has the file open."""
    if is_open(path):
        raise PermissionError(13, "The process cannot access the file, it is in use", str(path))


def refusing(function):
    """`os.replace`, `os.rename`, `os.unlink` or `os.remove`, unless a file of it is open."""

    def refused(*paths, **options):
        for path in paths:
            refuse(path)
        if function.__name__ == "rename" and os.path.lexists(paths[1]):
            raise FileExistsError(17, "Cannot create a file that exists", str(paths[1]))
        return function(*paths, **options)

    return refused


def kill(process, number):
    """Windows sends Ctrl-C for 0, and for any other number ends the process."""
    real_kill(process, signal.SIGINT if number == 0 else signal.SIGKILL)


def handle(number, handler):
    """`signal.signal`, for the signals that Windows has."""
    if signal.Signals(number).name not in (*SIGNALS.split(), "SIGTTIN"):
        raise ValueError("invalid signal value")
    return real_signal(number, handler)


class System:
    """`sys`, in which everything but the platform is the process's."""

    __dict__ = property(lambda self: vars(sys) | {"platform": "win32"})

    def __getattr__(self, name):
        return "win32" if name == "platform" else getattr(sys, name)

    def __setattr__(self, name, value):
        setattr(sys, name, value)

    def __delattr__(self, name):
        delattr(sys, name)


def named(module, *beginnings):
    """The names in a module that begin like these."""
    return {name for name in vars(module) if name.startswith(beginnings)}


def copy_of(module, without, **changes):
    """A module without some of its names, and with others changed."""
    copy = ModuleType(module.__name__)
    vars(copy).update({k: v for k, v in vars(module).items() if k not in without} | changes)
    return copy


real_kill, real_signal, real_import = os.kill, signal.signal, builtins.__import__
kernel32 = SimpleNamespace(
    SwitchToThread=ctypes.CDLL(None).sched_yield,
    SetConsoleCtrlHandler=lambda handler, ignored: signal.pthread_sigmask(
        signal.SIG_BLOCK if ignored else signal.SIG_UNBLOCK, {signal.SIGINT}
    ),
)
for function in (os.replace, os.rename, os.unlink, os.remove):
    setattr(os, function.__name__, refusing(function))
WINDOWS = {
    "os": copy_of(
        os,
        {*FUNCTIONS.split(), *named(os, "O_")} - {*FLAGS.split()},
        name="nt",
        O_BINARY=0,
        kill=kill,
    ),
    "sys": System(),
    "ctypes": copy_of(ctypes, set(), windll=SimpleNamespace(kernel32=kernel32)),
    "signal": copy_of(
        signal,
        named(
            signal, "SIG", "pthread_", "sigwait", "ITIMER", "alarm", "pause", "getitimer", "setit"
        )
        - {*SIGNALS.split()},
        signal=handle,
        SIGBREAK=signal.SIGTTIN,  # both are 21
        CTRL_C_EVENT=0,
        CTRL_BREAK_EVENT=1,
    ),
}


def import_of_windows(name, globals=None, locals=None, fromlist=(), level=0):
    """`__import__`, which gives our own modules what Windows has."""
    if level == 0 and globals and is_ours(globals):
        if name in MODULES.split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        first = name.partition(".")[0]
        if first in WINDOWS and not (fromlist and "." in name):
            return WINDOWS[first]
    return real_import(name, globals, locals, fromlist, level)


builtins.__import__ = import_of_windows
