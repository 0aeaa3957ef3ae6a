/* What a process has besides memory and descriptors: ids, working directory, umask, limits, names, priority, affinity,
 * session, dumpability, parent-death signal, no_new_privs, executable. */
#include "victim.h"

#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

int main(int argc, char **argv) {
    begin(argc, argv);
    char before[4096], after[4096], executable[4096], now[4096], name[16] = "";
    must(chdir(victim_directory) == 0 && getcwd(before, sizeof before) != NULL);
    umask(0137);
    struct rlimit limit = {300, 2000}, found;
    must(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    struct rlimit core = {0, 0};
    must(setrlimit(RLIMIT_CORE, &core) == 0);
    must(prctl(PR_SET_NAME, "a victim (1) x") == 0 && setpriority(PRIO_PROCESS, 0, 3) == 0);
    cpu_set_t one, seen;
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    must(sched_setaffinity(0, sizeof one, &one) == 0);
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    pid_t pid = getpid(), group = getpgrp(), session = getsid(0);
    ssize_t size = readlink("/proc/self/exe", executable, sizeof executable - 1);
    must(size > 0);
    executable[size] = 0;
    gid_t groups[3] = {5, 60, 777};
    must(syscall(SYS_setgroups, 3, groups) == 0);
    must(setresgid(1000, 1001, 1002) == 0 && setresuid(2000, 2000, 2000) == 0);
    await_verdict();
    must(getcwd(after, sizeof after) != NULL && strcmp(before, after) == 0);
    must(umask(0) == 0137);
    must(getrlimit(RLIMIT_NOFILE, &found) == 0 && found.rlim_cur == 300 && found.rlim_max == 2000);
    must(getrlimit(RLIMIT_CORE, &found) == 0 && found.rlim_max == 0);
    must(prctl(PR_GET_NAME, name) == 0 && strcmp(name, "a victim (1) x") == 0);
    must(getpriority(PRIO_PROCESS, 0) == 3);
    must(sched_getaffinity(0, sizeof seen, &seen) == 0 && CPU_EQUAL(&one, &seen));
    must(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    must(getpid() == pid && getpgrp() == group && getsid(0) == session && syscall(SYS_gettid) == pid);
    size = readlink("/proc/self/exe", now, sizeof now - 1);
    must(size > 0);
    now[size] = 0;
    must(strcmp(executable, now) == 0);
    gid_t seen_groups[8];
    must(getgroups(8, seen_groups) == 3 && memcmp(groups, seen_groups, sizeof groups) == 0);
    uid_t real, effective, saved;
    must(getresuid(&real, &effective, &saved) == 0 && real == 2000 && effective == 2000 && saved == 2000);
    gid_t g_real, g_effective, g_saved;
    must(getresgid(&g_real, &g_effective, &g_saved) == 0 && g_real == 1000 && g_effective == 1001 && g_saved == 1002);
    must(setuid(0) == -1 && errno == EPERM);
    pass();
}
