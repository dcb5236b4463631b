"""Runs a command under a seccomp profile that refuses system calls with EPERM: refusing.py CALL[,CALL...] COMMAND..."""

import errno
import os
import sys

import seccomp

profile = seccomp.SyscallFilter(seccomp.ALLOW)
for call in sys.argv[1].split(","):
    profile.add_rule(seccomp.ERRNO(errno.EPERM), call)
profile.load()
os.execvp(sys.argv[2], sys.argv[2:])
