#!/usr/bin/env bash
# Starts, stops and torments a raftkv cluster on this machine.
#
# Everything it makes lies in one folder (RAFTKV_DIR): the nodes' data in node-N, their pids and logs in run.
# It ends only processes that it has started itself: a pid counts only while that process still is a
# raftkv-server with the data folder of that node. Needs bash 3.2 or newer, cargo, ps and the usual tools.

set -euo pipefail

project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
self=$0
leader_patience_s=15
stop_patience_s=10

usage() {
    cat <<TEXT
Usage: scripts/cluster.sh COMMAND

  start [N]    build, start N nodes (1 to 9; 5 unless told), wait for a leader
  stop         stop all nodes
  status       a table of what each node says of itself
  logs [-f]    all logs in order of time, each line with its node; -f: go on as they grow
  kill N       kill -9 node N
  pause N      stop node N where it is (SIGSTOP), as if its machine hung
  resume N     let it go on
  restart N    stop node N if it runs, start it again
  rolling-restart
               restart all nodes, one after the other, each when the one before is back and has caught up;
               the leader last, which hands over first: no request fails
  clean        stop all and delete the cluster's data
  demo         a guided tour on ports and a folder of its own: writes, kills the leader, looks what is left
  soak [M]     three nodes of its own, as many writes as they take for M minutes (10 unless told), and what
               memory and disk they use meanwhile: it fails when either goes on growing

Environment:
  RAFTKV_DIR        the folder of data, pids and logs; $project/data unless told
  RAFTKV_PORT_BASE  node I listens on this + I for nodes and on this + 1000 + I for clients; 15000 unless told
  RAFTKV_BIN        a folder with raftkv-server and raftkv-client: then nothing is built
TEXT
}

say() { printf '%s\n' "$*"; }

fail() {
    printf 'cluster.sh: %s\n' "$*" >&2
    exit 1
}

bad_usage() {
    printf 'cluster.sh: %s\n\n' "$*" >&2
    usage >&2
    exit 2
}

need() { # TOOL HOW_TO_GET_IT
    command -v "$1" >/dev/null 2>&1 || fail "$1 is missing: $2"
}

# ---- Where things are ------------------------------------------------------------------------------------

set_folder() { # DIR
    # A relative folder is meant from where the user stands.
    case $1 in /*) dir=$1 ;; *) dir=$PWD/$1 ;; esac
    dir=${dir%/}
    run=$dir/run
}

set_programs() {
    bin=${RAFTKV_BIN:-${CARGO_TARGET_DIR:-$project/target}/release}
    case $bin in /*) ;; *) bin=$PWD/$bin ;; esac
    server=$bin/raftkv-server
    client=$bin/raftkv-client
}

build() {
    if [ -z "${RAFTKV_BIN:-}" ]; then
        need cargo "install Rust, see https://rustup.rs"
        (cd "$project" && cargo build --release --quiet) || fail "the build failed"
    fi
    need_programs
}

need_programs() {
    [ -x "$server" ] || fail "$server is missing: build it with cargo build --release"
    [ -x "$client" ] || fail "$client is missing: build it with cargo build --release"
}

# The configuration of the cluster that was started here, remembered by start.
need_cluster() {
    [ -f "$run/config" ] || fail "no cluster was started in $dir: $self start"
    config=$(cat "$run/config")
    [ -f "$config" ] || fail "the cluster's configuration $config is gone"
    need_programs
}

# One line a node of the configuration: its id and its clients' address.
nodes() {
    awk '
        { sub(/#.*/, "") }
        /^[ \t]*\[/ { inside = ($0 ~ /^[ \t]*\[\[[ \t]*node[ \t]*\]\]/); id = "" }
        inside && /^[ \t]*id[ \t]*=/ { id = $0; gsub(/[^0-9]/, "", id) }
        inside && /^[ \t]*client[ \t]*=/ { split($0, part, "\""); address = part[2] }
        inside && id != "" && address != "" { print id, address; id = ""; address = "" }
    ' "${1:-$config}"
}

ids() { nodes | cut -d ' ' -f 1; }

address_of() { nodes | awk -v id="$1" '$1 == id { print $2 }'; }

has_data() { [ -d "$dir/node-$1" ]; }

write_config() { # N
    local base=${RAFTKV_PORT_BASE:-15000} id
    # Under another name until it is certain that these nodes may start: see adopt_config.
    config=$dir/cluster.toml.new
    {
        say "# Written by scripts/cluster.sh, and written again by each of its starts."
        say 'cluster = "local"'
        say 'data_dir = "."'
        for ((id = 1; id <= $1; id++)); do
            say ""
            say "[[node]]"
            say "id = $id"
            say "peer = \"127.0.0.1:$((base + id))\""
            say "client = \"127.0.0.1:$((base + 1000 + id))\""
        done
    } >"$config"
}

# The project's own file when it is about as many nodes and nobody asks for other ports, else one for N nodes.
choose_config() { # N
    if [ -z "${RAFTKV_PORT_BASE:-}" ] && [ "$(nodes "$project/cluster.toml" | wc -l)" -eq "$1" ]; then
        config=$project/cluster.toml
    else
        write_config "$1"
    fi
}

adopt_config() {
    if [ "$config" = "$dir/cluster.toml.new" ]; then
        mv -f "$config" "$dir/cluster.toml"
        config=$dir/cluster.toml
    fi
    say "$config" >"$run/config"
}

# ---- Processes -------------------------------------------------------------------------------------------

# Prints the pid of a node that runs; fails when it does not, or when its pid belongs to someone else by now.
pid_of() { # ID
    local pid arguments
    pid=$(cat "$run/node-$1.pid" 2>/dev/null) || return 1
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    arguments=$(ps -ww -p "$pid" -o args= 2>/dev/null) || return 1
    case $arguments in
    *raftkv-server*" --id $1 --data-dir $dir/node-$1" | *raftkv-server*" --id $1 --data-dir $dir/node-$1 "*)
        say "$pid"
        ;;
    *) return 1 ;;
    esac
}

is_paused() { # ID
    local pid
    pid=$(pid_of "$1") || return 1
    case $(ps -p "$pid" -o stat= 2>/dev/null) in T*) return 0 ;; *) return 1 ;; esac
}

running() { # prints the ids of the nodes that run
    local id
    for id in $(ids); do
        if pid_of "$id" >/dev/null; then say "$id"; fi
    done
}

# Starts a node. Right after it, is_gone may still hold: see has_begun.
launch() { # ID [--bootstrap]
    local id=$1
    shift
    # In a subshell, so that this shell does not report the end of what it has started.
    (
        nohup "$server" --config "$config" --id "$id" --data-dir "$dir/node-$id" "$@" \
            </dev/null >/dev/null 2>>"$run/node-$id.log" &
        echo $! >"$run/node-$id.pid"
    )
}

# Whether a launched process has become the server, or has ended already: before, it is still this script.
has_begun() { # ID
    pid_of "$1" >/dev/null || ! kill -0 "$(cat "$run/node-$1.pid")" 2>/dev/null
}

wait_until() { # SECONDS COMMAND…
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || return 1
        sleep 0.1
    done
}

is_gone() { ! pid_of "$1" >/dev/null; }

stop_nodes() { # ID…
    local id pid
    for id in "$@"; do
        if pid=$(pid_of "$id"); then
            # A paused process hears of its end only when it goes on.
            kill -TERM "$pid" 2>/dev/null || true
            kill -CONT "$pid" 2>/dev/null || true
        fi
    done
    for id in "$@"; do
        if ! wait_until "$stop_patience_s" is_gone "$id" && pid=$(pid_of "$id"); then
            say "node $id does not stop, killing it"
            kill -KILL "$pid" 2>/dev/null || true
            wait_until "$stop_patience_s" is_gone "$id" || fail "node $id (pid $pid) cannot be killed"
        fi
        # A process that ends loses its arguments before its files, and until then its folder is locked. One
        # that nobody waits for (in a container without an init) stays, without files.
        pid=$(cat "$run/node-$id.pid" 2>/dev/null) || continue
        wait_until 2 is_ended "$pid" || true
        rm -f "$run/node-$id.pid"
    done
}

stop_all() {
    # shellcheck disable=SC2046 # ids are numbers, one word each
    stop_nodes $(ids)
}

# ---- What the nodes say ----------------------------------------------------------------------------------

status_of() { # ID; fails when the node does not answer
    "$client" --connect "$(address_of "$1")" --timeout-ms 500 status 2>/dev/null
}

# The first member of that name in an answer.
field() { # NAME ANSWER
    local rest=${2#*"\"$1\":"}
    [ "$rest" != "$2" ] || return 0
    rest=${rest%%[,\}]*}
    rest=${rest#\"}
    say "${rest%\"}"
}

# Prints the id of the node that leads, by its own word; of two the one with the newer term.
leader() {
    local id answer term best='' best_term=-1
    for id in $(ids); do
        answer=$(status_of "$id") || continue
        if [ "$(field role "$answer")" = leader ]; then
            term=$(field term "$answer")
            if [ "$term" -gt "$best_term" ]; then
                best=$id
                best_term=$term
            fi
        fi
    done
    [ -n "$best" ] && say "$best"
}

knows_leader() { leader >/dev/null; }

is_started_or_dead() {
    local id
    for id in $(ids); do
        if is_gone "$id"; then return 0; fi
    done
    knows_leader
}

# ---- Commands --------------------------------------------------------------------------------------------

check_count() { # N
    case $1 in [1-9]) ;; *) bad_usage "$1 nodes, expected 1 to 9" ;; esac
}

start() {
    local count=${1:-} id alive bootstrap='' folders=0 missing=''
    [ -z "$count" ] || check_count "$count"
    mkdir -p "$run" || fail "cannot make the folder $run"
    build
    if [ -f "$run/config" ]; then
        config=$(cat "$run/config")
        if [ -f "$config" ]; then
            alive=$(running | tr '\n' ' ')
            [ -z "$alive" ] || already_running "$alive" "$count"
            # Without a number, as many as there were.
            [ -n "$count" ] || count=$(ids | wc -l | tr -d ' ')
        fi
    fi
    choose_config "${count:-5}"
    for id in $(ids); do
        if has_data "$id"; then folders=$((folders + 1)); else missing="$missing $id"; fi
    done
    check_folders "$folders" "$missing"
    # Only a new cluster: later it would let a node that has lost its disk vote against its own promises.
    [ "$folders" -gt 0 ] || bootstrap=--bootstrap
    adopt_config
    trap 'stop_all; exit 130' INT TERM
    for id in $(ids); do
        launch "$id" $bootstrap
    done
    for id in $(ids); do
        wait_until "$leader_patience_s" has_begun "$id" || start_failed
    done
    if ! wait_until "$leader_patience_s" is_started_or_dead || ! all_run || ! knows_leader; then
        start_failed
    fi
    trap - INT TERM
    say "$(ids | wc -l | tr -d ' ') nodes run, node $(leader) leads. Configuration: $config"
    [ -n "${quiet_start:-}" ] || what_next
}

all_run() { [ "$(running | wc -l)" -eq "$(ids | wc -l)" ]; }

already_running() { # IDS COUNT; ends the script
    local all
    all=$(ids | tr '\n' ' ')
    if [ "$1" != "$all" ]; then
        fail "running already: nodes ${1% } of ${all% }. Start the others with $self restart N," \
            "or stop all first"
    fi
    if [ -n "$2" ] && [ "$2" -ne "$(ids | wc -l)" ]; then
        fail "running already, with $(ids | wc -l | tr -d ' ') nodes: $self stop first"
    fi
    say "running already: nodes ${all% }"
    exit 0
}

# A cluster's members are fixed by its first start, so the folders that are there must be this cluster's.
check_folders() { # HOW_MANY_OF_THE_IDS MISSING_IDS
    local folder id
    for folder in "$dir"/node-*; do
        [ -d "$folder" ] || continue
        id=${folder##*/node-}
        if [ -z "$(address_of "$id")" ]; then
            refuse_folders "$folder belongs to a cluster of more nodes: start with as many as it had," \
                "or delete its data with $self clean"
        fi
    done
    if [ "$1" -gt 0 ] && [ -n "$2" ]; then
        refuse_folders "there is no data of node$2 in $dir, but of others. A cluster keeps the number of" \
            "nodes of its first start, and a node that has lost its data cannot simply start again." \
            "To begin anew and delete all data: $self clean"
    fi
}

refuse_folders() { # WHY; ends the script
    rm -f "$dir/cluster.toml.new"
    fail "$@"
}

start_failed() { # ends the script
    local id
    printf 'cluster.sh: no leader, or not all nodes run, after %s s at most. The logs end with:\n' \
        "$leader_patience_s" >&2
    for id in $(ids); do
        tail -n 5 "$run/node-$id.log" 2>/dev/null | prefix_lines "$id" >&2
    done
    stop_all
    fail "stopped again. All of the logs: $run/node-*.log"
}

what_next() {
    cat <<TEXT

Try:
  $client --config $config
  $client --config $config set x 1
  $self status
  $self kill $(leader)
  $self logs -f
  $self stop
TEXT
}

stop() {
    local alive
    alive=$(running | tr '\n' ' ')
    if [ -z "$alive" ]; then
        say "nothing runs in $dir"
        return
    fi
    # shellcheck disable=SC2086 # ids are numbers, one word each
    stop_nodes $alive
    say "stopped: nodes ${alive% }"
}

status() {
    local id state answer format='%-5s %-8s %-10s %6s %7s %8s %8s  %s\n'
    # shellcheck disable=SC2059 # the format is a constant that two lines share
    printf "$format" node process role term leader commit applied hash
    for id in $(ids); do
        state=down
        if is_paused "$id"; then state=paused; elif pid_of "$id" >/dev/null; then state=running; fi
        answer=''
        if [ "$state" = running ]; then answer=$(status_of "$id") || state=silent; fi
        # shellcheck disable=SC2059
        printf "$format" "$id" "$state" "$(field role "$answer")" "$(field term "$answer")" \
            "$(field leader "$answer")" "$(field commit_index "$answer")" "$(field last_applied "$answer")" \
            "$(field applied_hash "$answer")"
    done
    knows_leader || fail "no node leads"
}

prefix_lines() { sed "s/^/n$1 | /"; }

logs() {
    local id line current='' files=()
    for id in $(ids); do
        [ ! -f "$run/node-$id.log" ] || files+=("$run/node-$id.log")
        current=${current:-$id}
    done
    [ "${#files[@]}" -gt 0 ] || fail "no logs in $run"
    if [ "${1:-}" != -f ]; then
        for id in $(ids); do
            [ ! -f "$run/node-$id.log" ] || prefix_lines "$id" <"$run/node-$id.log"
        done | LC_ALL=C sort -s -t '|' -k 2 # Each line begins with its time: one story of all nodes.
        return
    fi
    # Of several files tail tells by a line of its own which one the next lines are from.
    tail -n 20 -F "${files[@]}" 2>/dev/null | while IFS= read -r line; do
        case $line in
        "==> $run/node-"*".log <==")
            current=${line#"==> $run/node-"}
            current=${current%.log <==}
            ;;
        '') ;;
        *) printf 'n%s | %s\n' "$current" "$line" ;;
        esac
    done
}

need_node() { # ID
    [ -n "${1:-}" ] || bad_usage "which node?"
    [ -n "$(address_of "$1")" ] || fail "there is no node $1 in $config"
}

need_running() { # ID; sets pid
    need_node "${1:-}"
    pid=$(pid_of "$1") || fail "node $1 does not run"
}

kill_node() { # ID
    need_running "${1:-}"
    kill -KILL "$pid"
    wait_until "$stop_patience_s" is_gone "$1" || fail "node $1 (pid $pid) cannot be killed"
    rm -f "$run/node-$1.pid"
    say "node $1 is killed. Start it again: $self restart $1"
}

pause() { # ID
    need_running "${1:-}"
    kill -STOP "$pid"
    say "node $1 is paused. Let it go on: $self resume $1"
}

resume() { # ID
    need_running "${1:-}"
    kill -CONT "$pid"
    say "node $1 goes on"
}

answers_or_dead() { is_gone "$1" || status_of "$1" >/dev/null; }

restart() { # ID
    need_node "${1:-}"
    stop_nodes "$1"
    launch "$1"
    if ! wait_until "$leader_patience_s" has_begun "$1" ||
        ! wait_until "$leader_patience_s" answers_or_dead "$1" || is_gone "$1"; then
        tail -n 5 "$run/node-$1.log" | prefix_lines "$1" >&2
        stop_nodes "$1"
        fail "node $1 does not start. Its log: $run/node-$1.log"
    fi
    say "node $1 runs"
}

# Sets committed, to what the leader has committed.
knows_commit() {
    local id answer
    id=$(leader) && answer=$(status_of "$id") && committed=$(field commit_index "$answer")
}

# Whether a node has applied so much and knows who leads; or has ended.
has_applied() { # ID INDEX
    local answer
    is_gone "$1" && return 0
    answer=$(status_of "$1") || return 1
    [ -n "$(field leader "$answer")" ] && [ "$(field leader "$answer")" != null ] &&
        [ "$(field last_applied "$answer")" -ge "$2" ]
}

rolling_restart() {
    local id first committed
    all_run || fail "not all nodes run: a restart of one more could cost the majority. $self restart N first"
    first=$(leader) || fail "no node leads"
    for id in $(ids | grep -vx "$first") "$first"; do
        restart "$id" >/dev/null
        wait_until "$leader_patience_s" knows_commit || fail "no node leads after the restart of node $id"
        # As long as it takes: the next one must not go before.
        until has_applied "$id" "$committed"; do sleep 0.1; done
        ! is_gone "$id" || fail "node $id has ended. Its log: $run/node-$id.log"
        say "node $id is back and has caught up"
    done
    say "all nodes are restarted, node $(leader) leads"
}

clean() {
    local folder
    if [ -f "$run/config" ]; then
        config=$(cat "$run/config")
        if [ -f "$config" ]; then stop; fi
    fi
    for folder in "$dir"/node-[0-9]*; do
        [ ! -d "$folder" ] || rm -rf -- "$folder"
    done
    if grep -q '^# Written by scripts/cluster.sh' "$dir/cluster.toml" 2>/dev/null; then
        rm -f -- "$dir/cluster.toml"
    fi
    rm -rf -- "$run"
    rmdir "$dir" 2>/dev/null || true
    say "the cluster in $dir is deleted"
}

# ---- The tour --------------------------------------------------------------------------------------------

# Writes for the client to send: many at once, then a few at a time until the leader is killed, then many
# more.
demo_writes() {
    local i
    for ((i = 1; i <= 300; i++)); do say "set demo-$i $i"; done
    while [ ! -e "$run/killed" ] && [ "$i" -lt 3000 ]; do
        say "set demo-$i $i"
        i=$((i + 1))
        sleep 0.01
    done
    local end=$((i + 300))
    for (( ; i < end; i++)); do say "set demo-$i $i"; done
}

has_answers() { [ "$(wc -l <"$run/answers")" -ge "$1" ]; }

is_ended() { ! kill -0 "$1" 2>/dev/null; }

# Compares what was acknowledged with what is there now; prints how many were, and fails when one is missing.
demo_check() {
    local answer found i=0 acknowledged=0 missing=0
    while IFS= read -r answer <&3; do
        i=$((i + 1))
        IFS= read -r found <&4 || found=''
        case $answer in *'"ok":true'*) ;; *) continue ;; esac
        acknowledged=$((acknowledged + 1))
        if [ "$(field value "$found")" != "$i" ]; then
            missing=$((missing + 1))
            printf 'missing: demo-%s was acknowledged with %s, now: %s\n' "$i" "$answer" "$found" >&2
        fi
    done 3<"$run/answers" 4<"$run/found"
    say "$acknowledged"
    [ "$missing" -eq 0 ] && [ "$acknowledged" -gt 0 ]
}

# Whether all nodes have applied the same and hold the same.
all_agree() {
    local id answer state states=''
    for id in $(ids); do
        answer=$(status_of "$id") || return 1
        state=$(field last_applied "$answer")/$(field applied_hash "$answer")
        [ -n "$states" ] || states=$state
        [ "$state" = "$states" ] || return 1
    done
}

demo_failed() { # ends the script
    printf 'cluster.sh: the demo failed: %s\n' "$*" >&2
    stop >&2
    fail "what it left is in $dir"
}

demo() {
    local old new writer count summary acknowledged i
    say "1. Five nodes, each a process with a folder of its own: $dir"
    quiet_start=yes start 5
    old=$(leader) || demo_failed "the leader is lost"
    say "2. A client writes, one after the other: set demo-1 1, set demo-2 2, …"
    rm -f "$run/killed"
    : >"$run/answers"
    demo_writes | "$client" --config "$config" --summary >"$run/answers" 2>"$run/summary" &
    writer=$!
    trap 'kill "$writer" 2>/dev/null || true; stop; exit 130' INT TERM
    wait_until 60 has_answers 300 || demo_failed "no 300 answers within 60 s"
    say "3. In the middle of it the leader, node $old, is killed with kill -9."
    kill_node "$old" >/dev/null
    : >"$run/killed"
    if ! wait_until 60 is_ended "$writer"; then
        kill "$writer" 2>/dev/null || true
        demo_failed "the writes did not end within 60 s"
    fi
    wait "$writer" || true
    new=$(leader) || demo_failed "no new leader"
    summary=$(tail -n 1 "$run/summary")
    say "4. Node $new leads now. The client saw: $summary."
    say "   The slowest request is the pause: it waited until there was a new leader."
    count=$(wc -l <"$run/answers" | tr -d ' ')
    for ((i = 1; i <= count; i++)); do say "get demo-$i"; done |
        "$client" --config "$config" >"$run/found" || demo_failed "not all reads were answered"
    if ! acknowledged=$(demo_check); then demo_failed "an acknowledged write is missing"; fi
    say "5. Of $count writes $acknowledged were acknowledged, and each of them is there."
    restart "$old" >/dev/null
    wait_until 30 all_agree || demo_failed "the nodes do not agree after 30 s"
    say "6. Node $old is back and has caught up: all five hold the same, by the hash of all they applied."
    status
    trap - INT TERM
    stop
}

soak_failed() { # WHY; ends the script
    kill "$bench" 2>/dev/null || true
    stop >/dev/null
    fail "$1. Logs, samples and what the load says are in $run"
}

kb_of() { # ID; prints the KB of its memory and of its folder
    local pid
    pid=$(pid_of "$1") || return 1
    printf '%s %s' "$(ps -o rss= -p "$pid" | tr -d ' ')" "$(du -sk "$dir/node-$1" 2>/dev/null | cut -f 1)"
}

# Under an endless stream of overwrites a node uses what its store, its log between two snapshots and one more
# snapshot take, and no more however long it goes on. So nothing in the last third of the time may be much more
# than what there was in the third before; the first one fills what has room.
soak() { # MINUTES
    local minutes=$1 told=0 bench began_s third id sample
    quiet_start=yes start 3
    "$client" --config "$config" bench --clients 16 --pipeline 4 --seconds $((minutes * 60)) >"$run/bench" 2>&1 &
    bench=$!
    trap 'kill "$bench" 2>/dev/null || true; stop; exit 130' INT TERM
    say "minute  of each node: MB of memory, MB on disk"
    began_s=$SECONDS
    : >"$run/samples"
    while kill -0 "$bench" 2>/dev/null; do
        third=$(((SECONDS - began_s) / (minutes * 20)))
        for id in $(ids); do
            sample=$(kb_of "$id") || soak_failed "node $id is gone: its log says why"
            printf '%s %s %s %s\n' "$(((SECONDS - began_s) / 60))" "$third" "$id" "$sample" >>"$run/samples"
        done
        # One line a minute, with the most that there was in it.
        awk -v now="$(((SECONDS - began_s) / 60))" -v told="$told" '
            $1 == told && now > told { if ($4 > m[$3]) m[$3] = $4; if ($5 > d[$3]) d[$3] = $5 }
            END { if (now > told) { printf "%6d", told + 1
                for (i = 1; i in m; i++) printf "  n%d %6.1f %6.1f", i, m[i] / 1024, d[i] / 1024; print "" } }
        ' "$run/samples"
        told=$(((SECONDS - began_s) / 60))
        sleep 1
    done
    trap - INT TERM
    wait "$bench" || soak_failed "the load did not come to its end"
    cat "$run/bench"
    stop >/dev/null
    awk '{ if ($4 > m[$2, $3]) m[$2, $3] = $4; if ($5 > d[$2, $3]) d[$2, $3] = $5 }
        END { for (i = 1; (1, i) in m; i++) {
            printf "n%d  memory %.1f then %.1f MB, disk %.1f then %.1f MB\n", i,
                m[1, i] / 1024, m[2, i] / 1024, d[1, i] / 1024, d[2, i] / 1024
            if (m[2, i] > 1.25 * m[1, i] || d[2, i] > 1.25 * d[1, i]) grows = 1 }
            exit grows }' "$run/samples" || soak_failed "memory or disk goes on growing"
    say "neither goes on growing"
}

# A folder and ports of its own for what NAME says, unless it was told which: nothing that runs is disturbed.
on_its_own() { # NAME ARGUMENT…
    local own='' name=$1
    shift
    if [ -z "${RAFTKV_DIR:-}" ]; then
        own=$(mktemp -d "${TMPDIR:-/tmp}/raftkv-$name.XXXXXX") || fail "cannot make a folder for the $name"
        set_folder "$own"
    elif [ -f "$run/config" ] || [ -e "$dir/node-1" ]; then
        fail "there is a cluster in $dir already: the $name needs a folder without one"
    fi
    # Below the ports that systems give to whoever asks for any.
    RAFTKV_PORT_BASE=${RAFTKV_PORT_BASE:-$((20000 + RANDOM % 100 * 100))}
    "$name" "$@"
    if [ -n "$own" ]; then clean >/dev/null; fi
}

soak_minutes() { # [MINUTES]
    case ${1:-10} in '' | *[!0-9]* | 0 | ????*) bad_usage "soak: from 1 to 999 minutes" ;; esac
    printf '%s' "${1:-10}"
}

main() {
    local command=${1:-}
    [ $# -eq 0 ] || shift
    need ps "it tells whether a node still runs (Debian and Ubuntu: apt-get install procps)"
    need awk "any awk will do"
    case ${RAFTKV_PORT_BASE:-} in *[!0-9]*) bad_usage "RAFTKV_PORT_BASE is no number" ;; esac
    set_programs
    case $command in
    start | stop | status | logs | kill | pause | resume | restart | rolling-restart | clean | demo | soak)
        # The demo and the soak without one make their own.
        set_folder "${RAFTKV_DIR:-$project/data}"
        ;;
    esac
    case $command in
    start) start "$@" ;;
    stop | status | pause | resume | restart | logs) need_cluster && "$command" "$@" ;;
    kill) need_cluster && kill_node "$@" ;;
    rolling-restart) need_cluster && rolling_restart ;;
    clean) clean ;;
    demo) on_its_own demo ;;
    soak)
        minutes=$(soak_minutes "$@")
        on_its_own soak "$minutes"
        ;;
    help | -h | --help) usage ;;
    '') bad_usage "which command?" ;;
    *) bad_usage "there is no command $command" ;;
    esac
}

main "$@"
