# What is done on a node: sh -s -- VERB ARGUMENTS. It comes through the standard input, so nothing stays on the node.
# A process counts as the node's if it is in the node's network: a node may share its machine with others.
set -u
PATH=$PATH:/usr/sbin:/sbin
here=$(readlink /proc/self/ns/net)
place=/run/kagemusha-chaos

fail() { echo "$*" >&2; exit 1; }

of_role() { # ROLE: pids
    case $1 in
    keepalived) pattern='^[^\x00]*keepalived\x00' ;;
    daemon) pattern='(^|[/\x00])kagemusha\x00node\x00' ;;
    *) pattern="(^|[/\\x00])kagemusha\\x00$1\\x00" ;;
    esac
    for file in $(LC_ALL=C grep -laP "$pattern" /proc/[0-9]*/cmdline 2>/dev/null); do
        pid=${file#/proc/}
        pid=${pid%/cmdline}
        ! is_here "$pid" || echo "$pid"
    done
}

is_here() { [ "$(readlink "/proc/$1/ns/net" 2>/dev/null)" = "$here" ]; }

is_container() { systemd-detect-virt --quiet --container 2>/dev/null || [ "$(readlink /proc/1/ns/net)" != "$here" ]; }

# ID SECONDS COMMANDS: they are done when `undo ID` says so, or after so many seconds, whatever becomes of SSH.
later() {
    mkdir -p "$place"
    printf '%s\n' "$3" >"$place/$1"
    setsid sh -c 'trap "" HUP; sleep "$2"; mv "$1" "$1.now" 2>/dev/null && sh "$1.now"; rm -f "$1.now"' \
        undo "$place/$1" "$2" </dev/null >/dev/null 2>&1 &
}

undo() { # ID
    mv "$place/$1" "$place/$1.now" 2>/dev/null || return 0
    sh "$place/$1.now"
    rm -f "$place/$1.now"
}

send() { # SIGNAL PIDS: gives those that there were
    signal=$1
    shift
    for pid; do
        ! is_here "$pid" || { kill "-$signal" "$pid" && echo "$pid"; } || :
    done
}

stop() { # ID SECONDS PIDS
    id=$1 seconds=$2
    shift 2
    [ $# -gt 0 ] || fail "there is no such process"
    later "$id" "$seconds" "kill -CONT $* 2>/dev/null"
    send STOP "$@"
}

cut() { # ID SECONDS RULES-IN RULES-OUT: rules are separated by ;
    command -v nft >/dev/null || fail "nft is not installed"
    set -- "$1" "$2" "$3" "$4" ${SSH_CONNECTION:-}
    case ${5:-} in *:*) family=ip6 ;; *) family=ip ;; esac
    in= out=
    if [ -n "${5:-}" ]; then
        in="$family saddr $5 tcp dport $8 accept;" out="$family daddr $5 tcp sport $8 accept;"
    fi
    later "$1" "$2" "nft delete table inet $1"
    nft "table inet $1 {
        chain input { type filter hook input priority -400; iif lo accept; $in $3; }
        chain output { type filter hook output priority -400; oif lo accept; $out $4; }
    }" || { undo "$1"; exit 1; }
}

taken() { # ID: packets that its rules have taken
    nft list table inet "$1" 2>/dev/null | sed -n 's/.*counter packets \([0-9]*\).*/\1/p' |
        { sum=0; while read -r count; do sum=$((sum + count)); done; echo "$sum"; }
}

fill() { # ID SECONDS DIRECTORY
    [ -d "$3" ] || fail "there is no $3"
    ! is_container || mountpoint -q "$3" || fail "the disk is not the node's own"
    later "$1" "$2" "rm -f '$3/$1'"
    for size in 1M 4k 1; do
        dd if=/dev/zero of="$3/$1" bs="$size" oflag=append conv=notrunc,fsync 2>/dev/null
    done
    ! dd if=/dev/zero of="$3/$1" bs=4k count=1 oflag=append conv=notrunc,fsync 2>/dev/null || fail "it is not full"
}

set_clock() { # ID SECONDS BY
    ! is_container || fail "the clock is not the node's own"
    later "$1" "$2" "date -s \"@\$((\$(date +%s) - ($3)))\" >/dev/null"
    date -s "@$(($(date +%s) + $3))" >/dev/null
}

census() { # PROGRAM-PID: lines of ROLE PROCESSES DESCRIPTORS RESIDENT-KIB
    for role in daemon agent keepalived; do
        count "$role" $(of_role "$role")
    done
    count watchdog $(watchdogs)
    [ -z "${1:-}" ] || [ ! -d "/proc/$1" ] || count program "$1"
}

watchdogs() { # that of the unit stands by while the daemon has started another one: it is counted where it is alone
    all=$(of_role watchdog) working=
    for pid in $all; do
        LC_ALL=C grep -qa -e --stand-by "/proc/$pid/cmdline" 2>/dev/null || working="$working $pid"
    done
    echo "${working:-$all}"
}

count() { # ROLE PIDS
    role=$1 descriptors=0 resident=0
    shift
    [ $# -gt 0 ] || return 0
    for pid; do
        descriptors=$((descriptors + $(ls "/proc/$pid/fd" 2>/dev/null | wc -l)))
        kib=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status" 2>/dev/null)
        resident=$((resident + ${kib:-0}))
    done
    echo "$role $# $descriptors $resident"
}

verb=$1
shift
case $verb in
probe)
    is_container && echo container
    command -v nft >/dev/null && echo nft
    mountpoint -q "$1" && echo disk
    [ -d /run/systemd/system ] && echo systemd
    true
    ;;
boot) cat /proc/sys/kernel/random/boot_id ;;
kill) send KILL $(of_role "$1") ;;
terminate) send TERM $(of_role "$1") ;;
kill-pid) send KILL "$1" ;;
stop) id=$1 seconds=$2; stop "$id" "$seconds" $(of_role "$3") ;;
state) for pid; do sed 's/.*) \(.\).*/\1/' "/proc/$pid/stat" 2>/dev/null || echo X; done ;;
cut) cut "$@" ;;
taken) taken "$1" ;;
fill) fill "$@" ;;
set-clock) set_clock "$@" ;;
track) [ -e "$3" ] && later "$1" "$2" "true" && printf '%s\n' "$4" >"$3" ;;
reboot) systemctl reboot --force --force ;;
lose-power) ! is_container || fail "the power is not the node's own"; echo b >/proc/sysrq-trigger ;;
undo) undo "$1" ;;
undo-all) for file in "$place/$1"*; do [ ! -e "$file" ] || undo "${file##*/}"; done ;;
census) census "${1:-}" ;;
*) fail "unknown: $verb" ;;
esac
