package bare

import (
	"errors"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// allowed are the system calls of a process: of Go's runtime, of files that it reads, and of sockets. It has no
// program to start, and makes no files.
var allowed = []string{
	"arch_prctl", "brk", "clock_gettime", "clock_nanosleep", "clone", "clone3", "exit", "exit_group", "futex", "getpid",
	"getrandom", "getrlimit", "gettid", "gettimeofday", "getuid", "geteuid", "getgid", "getegid", "madvise", "membarrier", "mincore",
	"mmap", "mprotect", "munmap", "nanosleep", "prctl", "prlimit64", "restart_syscall", "rseq", "rt_sigaction", "rt_sigprocmask",
	"rt_sigreturn", "sched_getaffinity", "sched_yield", "set_robust_list", "setrlimit", "sigaltstack", "tgkill", "uname",
	"close", "dup", "dup3", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_wait", "eventfd2", "faccessat", "faccessat2", "fcntl", "fstat",
	"getdents64", "lseek", "newfstatat", "pipe2", "poll", "ppoll", "pread64", "read", "readlinkat", "readv", "splice", "statx",
	"write", "writev",
	"accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg",
	"sendto", "setsockopt", "shutdown",
}

// conditional are allowed by what they are called with: files are opened for reading, and sockets are of the
// families that it needs.
var conditional = []seccomp.NameWithConditions{
	{Name: "openat", Conditions: seccomp.ArgumentConditions{{
		Argument: 2, Operation: seccomp.BitsNotSet, Value: unix.O_WRONLY | unix.O_RDWR | unix.O_CREAT | unix.O_TRUNC,
	}}},
	ofFamily(unix.AF_INET), ofFamily(unix.AF_INET6), ofFamily(unix.AF_NETLINK),
}

func ofFamily(n uint64) seccomp.NameWithConditions {
	return seccomp.NameWithConditions{Name: "socket", Conditions: seccomp.ArgumentConditions{{Argument: 0, Operation: seccomp.Equal, Value: n}}}
}

// fatal are those that only somebody calls who has taken the process over.
var fatal = []string{
	"bpf", "execve", "execveat", "finit_module", "fsopen", "init_module", "io_uring_setup", "kexec_load", "keyctl", "mount", "move_mount",
	"open_by_handle_at", "open_tree", "perf_event_open", "pidfd_getfd", "pivot_root", "process_vm_readv", "process_vm_writev", "ptrace", "setns",
	"unshare", "userfaultfd",
}

// confine has the kernel refuse this process all other system calls, on every thread, and others of its
// user to look into it: they may have processes of theirs.
func confine() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return err
	}
	info, err := arch.GetInfo("")
	if err != nil {
		return nil // an architecture of which no numbers are known
	}
	known := func(names []string) (list []string) {
		for _, name := range names {
			if _, ok := info.SyscallNames[name]; ok {
				list = append(list, name)
			}
		}
		return list
	}
	err = seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls: []seccomp.SyscallGroup{
			{Names: known(allowed), NamesWithCondtions: conditional, Action: seccomp.ActionAllow},
			{Names: known(fatal), Action: seccomp.ActionKillProcess},
		},
	}})
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		return nil // a kernel without filters of system calls, or a service manager that allows no more of them
	}
	return err
}
